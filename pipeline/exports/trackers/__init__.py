"""Trackers of experiments: one file each, which writes a finished run in its form. What is written: `finished.py`."""
