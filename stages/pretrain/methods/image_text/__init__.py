"""Methods that learn from images and the texts beside them. Never labels."""
