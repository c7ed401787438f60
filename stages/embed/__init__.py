"""Embedding: every image of every split through a frozen backbone, at every tap. No labels, no training."""
