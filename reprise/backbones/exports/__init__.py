"""The forms in which a trained backbone leaves for other programs, one file each. Nothing here reads a project."""
