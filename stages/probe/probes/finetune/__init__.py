"""Probes that train on the images, starting from a backbone: minutes a run, so none is on by default."""
