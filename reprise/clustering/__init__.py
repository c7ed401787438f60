"""Clustering of feature vectors: k-means, mixtures, neighbour graphs. Never a miner, never files."""
