"""One step of a training: gradients, and the optimisers that use them. Never data, never epochs."""
