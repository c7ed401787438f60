"""How many axes the samples of a network have, and how their channels lie in memory.

A network of three-dimensional convolutions sees volumes (B, C, S, S, S), any other images (B, C, S, S).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def axes_of(network: nn.Module) -> int:
    """Return 3 for a network that has weights of three-dimensional convolutions, else 2."""
    return 3 if any(weight.ndim == 5 for weight in network.parameters()) else 2


def blank(network: nn.Module, count: int, channels: int, size: int, device: torch.device | str = "cpu") -> Tensor:
    """Make samples of zeros that a network can see: (count, channels, size, size), of volumes with one side more."""
    return torch.zeros(count, channels, *[size] * axes_of(network), device=device)


def channels_last(axes: int) -> torch.memory_format:
    """Return the format in which the channels of samples with so many axes lie together."""
    return torch.channels_last_3d if axes == 3 else torch.channels_last


def normalised(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Bring pixels to the scale of a network: (B, S, S, C) uint8 -> (B, C, S, S) float32, channels last in memory.

    Args:
        pixels: on the device; of volumes (B, S, S, S, C).
        mean, std: per channel, on the 0..1 scale.
    """
    axes = pixels.ndim - 2
    shift, scale = (torch.tensor(v, device=pixels.device).view(1, -1, *[1] * axes) for v in (mean, std))
    x = pixels.movedim(-1, 1).float().div_(255.0)
    return ((x - shift) / scale).contiguous(memory_format=channels_last(axes))
