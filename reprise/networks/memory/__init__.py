"""What networks take of memory, and how to take less. Never what they learn."""
