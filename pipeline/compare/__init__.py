"""Comparison: revisions, runs, the gate, evaluation of any backbone. Never Prefect, never a stage's maths."""
