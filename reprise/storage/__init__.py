"""Bytes, locks and progress: atomic writes, tar members, listings, work folders, provenance. Never a format."""
