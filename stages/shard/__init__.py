"""Manifest -> plain WebDataset tars and an index of byte offsets. Never labels, never decisions about images."""
