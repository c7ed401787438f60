"""Weights as files: backbones, checkpoints, tensors from anywhere, and the hub. Never a network, never torch."""
