"""Check all parameters before anything runs, and describe them. It finds stages by folder and never runs their work."""
