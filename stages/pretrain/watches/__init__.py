"""Watches, one a file: read-only looks at a training at its start and after epochs. Never what changes the training."""
