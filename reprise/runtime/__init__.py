"""The process and its machine: start and end, device, seeds, threads, progress, world. Never a data format."""
