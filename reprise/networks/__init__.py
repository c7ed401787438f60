"""Networks: backbones by name, heads, the autoencoder. Never paths, files, optimisers or training state."""
