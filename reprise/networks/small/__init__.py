"""Our own small networks for small images. Never a network of timm or torchvision."""
