"""Volumes as a modality: small blocks of values in three dimensions. No stage and no network belongs here."""
