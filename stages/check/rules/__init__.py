"""Rules for the values of params.yaml: against each other, the images, and this machine. Never a stage's own rule."""
