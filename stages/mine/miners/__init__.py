"""One file a miner; its name is the file's: features in, clusters out."""
