"""Facts of images beyond their label: the tables, and the members beside images in shards. Never decoding."""
