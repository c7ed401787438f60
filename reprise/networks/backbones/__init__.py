"""Backbones, one a file: how each network is built. What several of them share lies above, in reprise/networks."""
