"""Statistics and metrics: arrays in, numbers out. Never files; `statistics` never torch, since pipeline uses it."""
