"""The process and its machine: start and end, device, seeds, threads, progress. Never data formats."""
