"""Blocks of a stage's work on a Dask cluster; only here is Dask imported. Never what a block computes."""
