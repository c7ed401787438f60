"""White noise that is drawn for images of any size at bounded cost."""

from __future__ import annotations

import torch
from torch import Tensor

TILE = 64  # pixels: noise for larger images repeats after so many


def draw_noise(count: int, channels: int, size: int, rng: torch.Generator) -> Tensor:
    """Draw a tile of standard normal noise an image: (count, channels, T, T) with T at most 64 pixels."""
    side = min(size, TILE)
    return torch.randn(count, channels, side, side, generator=rng)


def covering(tile: Tensor, size: int) -> Tensor:
    """Repeat tiles until they cover images of `size` pixels: (n, C, T, T) -> (n, C, size, size)."""
    times = -(-size // tile.shape[-1])
    return tile.repeat(1, 1, times, times)[..., :size, :size] if times > 1 else tile
