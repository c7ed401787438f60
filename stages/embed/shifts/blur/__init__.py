"""Blur: the lens, the hand or the subject moves."""
