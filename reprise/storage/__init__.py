"""Bytes and locks: atomic writes, tar members, listings, work folders, provenance. Never an artifact's format."""
