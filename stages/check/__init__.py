"""All parameters, checked at once before anything runs. Looks rooms up by folder; never runs a stage's work."""
