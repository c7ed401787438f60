"""Trained backbones outside of Reprise: loaded in Python, and written in the forms of other programs. Never a stage."""
