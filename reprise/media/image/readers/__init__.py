"""From untrusted bytes to the pixels that a file holds: a file for each library, and TIFF. Never scales values."""
