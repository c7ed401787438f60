"""Statistics and metrics: arrays in, numbers out. Never files; `statistics` never torch, as pipeline imports it."""
