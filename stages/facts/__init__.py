"""Facts of the source and of targets.csv become one table, and one for each run. Never pixels, never training."""
