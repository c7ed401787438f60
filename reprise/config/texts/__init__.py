"""Texts that people write and read: allowed forms, suggestions for misspelt names, hidden credentials. Never files."""
