"""How each artifact is written and read; typed errors; atomic writes. Never torch, never another package."""
