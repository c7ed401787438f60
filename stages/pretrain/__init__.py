"""Pretraining: one hand-written loop; methods in one file each; samplers and views. Never the manifest."""
