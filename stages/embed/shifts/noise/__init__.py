"""Noise: each value of a pixel is changed on its own."""
