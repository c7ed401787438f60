"""Changes: the random steps of which views are made, one file each. Nothing here reads files or knows of training."""
