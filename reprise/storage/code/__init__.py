"""What counts in a source file, and fingerprints of all code that a process can run. Never data, never results."""
