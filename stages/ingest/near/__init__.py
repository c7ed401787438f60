"""Near-copies, images that show the same picture in other pixels: how they are found, and what becomes of them."""
