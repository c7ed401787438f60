"""Readers of the artifacts that the page shows, one file an artifact, into typed values. Never markup."""
