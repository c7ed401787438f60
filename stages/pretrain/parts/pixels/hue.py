"""Hues of batches of images, turned around the circle of colours."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


def turned_hue(x: Tensor, turns: Tensor) -> Tensor:
    """Rotate the hue by `turns` of a full circle, through HSV."""
    value = x.amax(dim=1, keepdim=True)
    chroma = value - x.amin(dim=1, keepdim=True)
    safe = chroma.masked_fill(chroma == 0, 1.0)
    red, green, blue = x.split(1, dim=1)
    hue = torch.where(
        value == red,
        (green - blue).div_(safe),
        torch.where(value == green, (blue - red).div_(safe).add_(2.0), (red - green).div_(safe).add_(4.0)),
    )
    hue = hue.div_(6.0).add_(turns).mul_(6.0)
    # f(n) of the HSV hexcone: value minus chroma times a trapezoid of the hue
    shift = _hexcone(x.device, x.dtype)
    position = shift + hue
    position.sub_(position.div(6.0).floor_().mul_(6.0))  # the remainder, exact in this range and ten times faster
    trapezoid = torch.minimum(position, 4.0 - position, out=position).clamp_(0.0, 1.0)
    return torch.sub(value, trapezoid.mul_(chroma), out=trapezoid)


@lru_cache(maxsize=8)
def _hexcone(device: torch.device, kind: torch.dtype) -> Tensor:
    """Return the n of red, green and blue, once for each device: sending it there takes longer than using it."""
    return torch.tensor([5.0, 3.0, 1.0]).to(device, kind).view(1, 3, 1, 1)
