"""Studies of what is found in images: new classes, parts and visual words."""
