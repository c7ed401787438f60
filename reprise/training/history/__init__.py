"""What is kept of a training beside its weights: losses, history, checkpoints. Never what changes the training."""
