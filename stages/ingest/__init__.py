"""A source of images becomes a manifest and a quarantine. Copies no folder, trains nothing, never shards."""
