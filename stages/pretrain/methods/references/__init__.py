"""References: no training, true labels, and features without gradients. They say what other methods are worth."""
