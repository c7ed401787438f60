"""Texts that belong to images (captions): what may be one, how files and shards hold them, and what to know of many."""
