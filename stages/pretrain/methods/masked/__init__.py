"""Masked images: parts of the patches are hidden, and the network predicts pixels or the answer to the whole image."""
