"""Readers of what is known of the images before any training. Never markup."""
