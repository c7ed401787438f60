"""Geometry of linear maps and of sets of points: arrays in, numbers out. Never files, never images."""
