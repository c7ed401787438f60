"""Mining: features of images, and label sets (clusters) made from them. True labels only grade what was found."""
