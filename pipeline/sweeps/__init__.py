"""Sweeps: plans of parameter changes, their runner, their report. Never Prefect."""
