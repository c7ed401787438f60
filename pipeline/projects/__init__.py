"""Making a project in a user's own folder: the files of the graph, and presets of parameters. Nothing here runs it."""
