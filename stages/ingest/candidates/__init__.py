"""From the source's candidates to the images that stay: examined, then chosen and split. Never a source's own rules."""
