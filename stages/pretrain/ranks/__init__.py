"""One run in several processes: which images are whose, and what they must agree on. How they start is in runtime."""
