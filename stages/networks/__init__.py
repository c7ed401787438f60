"""Networks: backbones, heads, the autoencoder. Never paths, files, optimisers or training state."""
