"""Texts as numbers, and a small transformer over them. Never files, never images."""
