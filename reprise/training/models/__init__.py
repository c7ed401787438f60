"""Kinds of models that are no backbones, one a file: how each is built, trained and read. Never files of the graph."""
