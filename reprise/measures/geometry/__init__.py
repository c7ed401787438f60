"""Geometry of linear maps, rotations and sets of points: arrays in, numbers out. Never files, never images."""
