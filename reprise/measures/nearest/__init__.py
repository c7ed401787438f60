"""Nearest neighbours: the search for them, and rankings made from it. Never files, never labels of training."""
