"""Simple bodies and how they look from anywhere, drawn by numpy alone. Never options, facts or files."""
