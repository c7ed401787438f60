"""Digital changes: what processing and storing does to an image."""
