"""Runtime: how a process starts, device, precision, seeds, progress. Never data, networks or methods."""
