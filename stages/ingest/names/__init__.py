"""What the names of files and folders mean: splits, classes, groups, pictures. Never the bytes of an image."""
