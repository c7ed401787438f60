"""Methods that train on mined pairs: an image and its partner attract each other. Never what finds the pairs."""
