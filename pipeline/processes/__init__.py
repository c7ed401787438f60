"""Processes: start them, end them, redact and explain what they say. Never DVC, never Prefect."""
