"""Images, a file a task: inspect, decode, encode, stored form, thumbnail. Never a table, never shards."""
