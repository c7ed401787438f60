"""Losses and their parts, one a file: pure functions of tensors. Never files, never methods."""
