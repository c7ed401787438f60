"""Contrastive methods: views of one image attract each other, other images repel."""
