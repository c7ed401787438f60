"""Exchange results with DVC's remote and cache, and hold every byte from them against its hash."""
