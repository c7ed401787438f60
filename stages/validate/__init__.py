"""Stage `validate`: check the manifest and stop the graph on errors. It repairs nothing and never reads pixels."""
