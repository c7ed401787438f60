"""Methods, one a file, in families; a method's name is its file's. They never import each other: see parts/."""
