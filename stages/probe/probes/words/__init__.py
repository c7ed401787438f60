"""Probes of runs that were trained on images and texts: what can be asked in words. Never training."""
