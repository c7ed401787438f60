"""One file a method; the file's name is the method's. Methods never import each other: what they share is in parts/."""
