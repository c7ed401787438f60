"""The formats that travel between stages, one file a format; `layout` alone spells their paths. Never torch."""
