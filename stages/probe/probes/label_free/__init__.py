"""Probes that need no labels: spread, map, neighbours."""
