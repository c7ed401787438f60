"""The process and its machine: start and end, device, seeds, threads, world. Never a data format."""
