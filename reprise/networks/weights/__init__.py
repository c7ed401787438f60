"""Weights in networks: published ones, how foreign ones fit, and the layers that they belong to. Never files."""
