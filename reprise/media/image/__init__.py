"""Images: inspect untrusted bytes, decode, bring into the stored form. Never the manifest, never shards."""
