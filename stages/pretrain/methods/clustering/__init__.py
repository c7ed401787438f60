"""Clustering: images are assigned to clusters or prototypes during training, and views predict the assignment."""
