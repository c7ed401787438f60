"""Embeddings become metrics and per-example predictions. Never images, backbones or training."""
