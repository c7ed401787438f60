"""Studies of which factors of an image a representation keeps. Never imported by the product."""
