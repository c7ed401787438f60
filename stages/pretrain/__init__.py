"""Pretraining: methods, one a file, the epochs and views that they learn from, one run. Never the manifest."""
