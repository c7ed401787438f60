"""Changes of pixels in batches of images, which several changes and methods share. Never parameters."""
