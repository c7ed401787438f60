"""Probes of local features: what a frozen backbone knows of each place of an image."""
