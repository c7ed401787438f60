"""Plug-ins: found by name, read from parameters, described by their files. Never what one kind of them does."""
