"""Inside DVC's process: check objects before use, keep outputs until there are new ones. Nothing imports this."""
