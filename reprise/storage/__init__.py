"""Bytes and locks: atomic writes, tar members, safe walks, work folders, provenance. Never an artifact's format."""
