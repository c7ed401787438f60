"""What a network takes of memory, found without any: it is laid out and applied on torch's meta device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Footprint:
    """The size of a network.

    Attributes:
        weights: numbers in its parameters and buffers.
        kept: numbers that its layers give out for one image, which the backward pass needs again.
        features: width of what comes out.
    """

    weights: int
    kept: int
    features: int


def footprint(network: nn.Module, channels: int, size: int, device: str = "meta") -> Footprint:
    """Apply a network to two images, and add up what its layers give out.

    Args:
        network: (B, C, S, S) -> (B, d).
        channels: C.
        size: S, in pixels.
        device: where the network lies.

    Raises:
        RuntimeError: the images are too small for the network, or it does what the device cannot.
    """
    kept = 0

    def count(module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal kept
        kept += output.numel() if isinstance(output, Tensor) else 0

    leaves = [module for module in network.modules() if next(module.children(), None) is None]
    hooks = [module.register_forward_hook(count) for module in leaves]
    try:
        features = network(torch.zeros(2, channels, size, size, device=device))
    finally:
        for hook in hooks:
            hook.remove()
    return Footprint(numbers(network), kept // 2, int(features.shape[-1]))


def numbers(module: nn.Module) -> int:
    """Count the numbers in all parameters and buffers of a module."""
    return sum(tensor.numel() for tensor in [*module.parameters(), *module.buffers()])
