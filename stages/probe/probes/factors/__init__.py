"""Probes of what a representation keeps of the factors that made an image. Never a method that is trained on them."""
