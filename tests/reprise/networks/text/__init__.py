"""Tests of texts as numbers."""
