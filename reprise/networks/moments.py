"""Moment Probing: a head that reads the second moments of local features, not their mean alone.

Source: Gao et al. 2023 ("Tuning pre-trained model via moment probing"), authors' code mingzeG/Moment-Probing.
Legend: B images, L places, D dimensions of a local feature, H heads of width h, c classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def cross_covariance(a: Tensor, b: Tensor) -> Tensor:
    """Average a_i b_j over places: (B, L, h) and (B, L, h) -> (B, h, h).

    Nothing is centred, as in the authors' code, so that the first moment stays in it.
    """
    return a.transpose(1, 2) @ b / a.shape[1]


class MomentHead(nn.Module):
    """Logits = 1/2 (W1 mean + W2 moments).

    Local features are projected to H heads that share a layer norm; the cross-covariance of each two neighbouring heads
    is brought to columns of length one, and two 3x3 convolutions of stride 2 without padding shrink the H - 1 maps.

    Args:
        dimensions: D.
        classes: c.
        heads: H, at least 2.
        width: h, at least 7, of which two such convolutions leave one cell.
    """

    def __init__(self, dimensions: int, classes: int, heads: int, width: int) -> None:
        super().__init__()
        if heads < 2 or width < 7:
            raise ValueError(f"moments need two heads of width 7 or more, got {heads} of {width}")
        self.heads, self.width, maps = heads, width, heads - 1
        self.project = nn.Linear(dimensions, heads * width)
        self.norm = nn.LayerNorm(width)
        self.first = nn.Conv2d(maps, maps, 3, stride=2, bias=False)
        self.second = nn.Conv2d(maps, maps, 3, stride=2, bias=False)
        self.of_mean = nn.Linear(dimensions, classes)
        self.of_moments = nn.Linear(maps * shrunk(width) ** 2, classes)

    def moments(self, tokens: Tensor) -> Tensor:
        """Compute the normalised cross-covariances: (B, L, D) -> (B, H - 1, h, h), columns of length one."""
        split = self.norm(self.project(tokens).unflatten(2, (self.heads, self.width)))
        maps = [cross_covariance(split[:, :, i], split[:, :, i + 1]) for i in range(self.heads - 1)]
        return F.normalize(torch.stack(maps, dim=1), dim=2)

    def forward(self, tokens: Tensor) -> Tensor:
        """Compute the logits: (B, L, D) -> (B, c)."""
        maps = self.second(F.gelu(self.first(self.moments(tokens))))
        return 0.5 * (self.of_mean(tokens.mean(dim=1)) + self.of_moments(maps.flatten(1)))


class Standardise(nn.Module):
    """Subtract a mean and divide by a deviation, (D,) each, fixed."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return (x - self.mean) / self.std


def shrunk(width: int) -> int:
    """Return the side of a map after both convolutions."""
    for _ in range(2):
        width = (width - 3) // 2 + 1
    return width
