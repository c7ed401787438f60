"""One file an extractor; its name is the file's: images in, features out, no labels."""
