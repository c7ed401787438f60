"""Methods whose features follow a known transformation instead of ignoring it. Never what draws the transformation."""
