"""From a source of images to a manifest and a quarantine. Never copies a folder, never trains, never shards."""
