"""Corruptions of images, one a file, in families; a name is the file's. They never import each other."""
