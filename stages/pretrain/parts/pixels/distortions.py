"""Thirteen distortions of quality at five levels each, for batches of images on any device.

Each has its five strengths in a table, so that a level means the same wherever it is used. Random ones take their noise
from outside. Every one lowers the peak signal-to-noise ratio as its level rises.

Shape legend: n images, C channels, S side in pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.pretrain.parts.pixels.luma import luma

LEVELS = 5
Distort = Callable[[Tensor, float, Tensor], Tensor]  # images, strength, noise (n, C, S, S) -> images


def _blurred(x: Tensor, sigma: float, noise: Tensor) -> Tensor:
    reach = max(1, min(round(3 * sigma), x.shape[-1] - 1))
    offset = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
    return _along_both(x, torch.exp(-(offset**2) / (2 * sigma**2)))


def _moved(x: Tensor, length: float, noise: Tensor) -> Tensor:
    kernel = torch.ones(int(length), device=x.device, dtype=x.dtype)
    return _along(x, kernel / kernel.sum(), 3)


def _along_both(x: Tensor, kernel: Tensor) -> Tensor:
    kernel = kernel / kernel.sum()
    return _along(_along(x, kernel, 2), kernel, 3)


def _along(x: Tensor, kernel: Tensor, dim: int) -> Tensor:
    channels, reach = x.shape[1], len(kernel) // 2
    shape = (1, 1, -1, 1) if dim == 2 else (1, 1, 1, -1)
    padding = (0, 0, reach, len(kernel) - 1 - reach) if dim == 2 else (reach, len(kernel) - 1 - reach, 0, 0)
    weight = kernel.view(shape).expand(channels, 1, *shape[2:])
    return F.conv2d(F.pad(x, padding, mode="replicate"), weight.contiguous(), groups=channels)


def _pixelated(x: Tensor, block: float, noise: Tensor) -> Tensor:
    small = max(1, round(x.shape[-1] / block))
    return F.interpolate(F.adaptive_avg_pool2d(x, small), size=x.shape[-2:], mode="nearest")


def _compressed(x: Tensor, step: float, noise: Tensor) -> Tensor:
    """Round the frequencies of blocks of 8 x 8 pixels, the higher the more coarsely, as JPEG does."""
    size = x.shape[-1]
    wide = F.pad(x, (0, -size % 8, 0, -size % 8), mode="replicate")
    rows, columns = wide.shape[-2] // 8, wide.shape[-1] // 8
    blocks = wide.view(*x.shape[:2], rows, 8, columns, 8).permute(0, 1, 2, 4, 3, 5)
    turn, frequency = _cosines(x), torch.arange(8, device=x.device, dtype=x.dtype)
    coarse = step * (1.0 + frequency[:, None] + frequency)
    found = torch.round(turn @ (blocks - 0.5) @ turn.T / coarse) * coarse
    back = (turn.T @ found @ turn + 0.5).permute(0, 1, 2, 4, 3, 5).reshape(wide.shape)
    return back[..., :size, :size]


def _cosines(x: Tensor) -> Tensor:
    """The orthonormal discrete cosine transform of 8 values: (8, 8)."""
    k = torch.arange(8, device=x.device, dtype=x.dtype)
    matrix = torch.cos(torch.pi / 8 * (k + 0.5) * k[:, None]) * 0.5
    matrix[0] = 8**-0.5
    return matrix


def _impulses(x: Tensor, share: float, noise: Tensor) -> Tensor:
    """Turn pixels white or black where noise is largest or smallest; higher levels hit the pixels of lower ones too."""
    most = float(2**0.5 * torch.erfinv(torch.tensor(1.0 - share)))
    hit = noise[:, :1]
    return torch.where(hit > most, torch.ones_like(x), torch.where(hit < -most, torch.zeros_like(x), x))


def _fewer_colours(x: Tensor, steps: float, noise: Tensor) -> Tensor:
    return torch.round(x * steps) / steps


def _scaled_up(x: Tensor, factor: float, noise: Tensor) -> Tensor:
    small = F.interpolate(x, size=max(2, round(x.shape[-1] / factor)), mode="bilinear", antialias=True)
    return F.interpolate(small, size=x.shape[-2:], mode="bicubic", align_corners=False)


DISTORTIONS: dict[str, tuple[Distort, tuple[float, ...]]] = {
    "blur": (_blurred, (0.4, 0.7, 1.0, 1.5, 2.2)),
    "motion": (_moved, (3, 5, 7, 9, 11)),
    "pixelate": (_pixelated, (2, 3, 4, 6, 8)),
    "scale": (_scaled_up, (1.3, 1.7, 2.2, 3, 4)),
    "compress": (_compressed, (0.02, 0.05, 0.1, 0.18, 0.3)),
    "noise": (lambda x, s, noise: x + s * noise, (0.02, 0.05, 0.09, 0.14, 0.2)),
    "speckle": (lambda x, s, noise: x + s * x * noise, (0.05, 0.12, 0.2, 0.3, 0.45)),
    "impulse": (_impulses, (0.01, 0.03, 0.06, 0.1, 0.16)),
    "darken": (lambda x, s, noise: x * s, (0.88, 0.76, 0.62, 0.48, 0.34)),
    "brighten": (lambda x, s, noise: 1.0 - (1.0 - x) * s, (0.88, 0.76, 0.62, 0.48, 0.34)),
    "flatten": (lambda x, s, noise: 0.5 + (x - 0.5) * s, (0.85, 0.7, 0.55, 0.4, 0.25)),
    "fade": (lambda x, s, noise: luma(x) + (x - luma(x)) * s, (0.75, 0.5, 0.3, 0.15, 0.0)),
    "quantise": (_fewer_colours, (31, 15, 7, 4, 2)),
}
KINDS = tuple(DISTORTIONS)


def distorted(x: Tensor, kind: int, level: int, noise: Tensor) -> Tensor:
    """Distort images.

    Args:
        x: (n, C, S, S) in [0, 1].
        kind: position in `KINDS`.
        level: 0 to 4, the mildest first.
        noise: (n, C, S, S), standard normal.

    Returns:
        (n, C, S, S) in [0, 1].
    """
    distort, strengths = DISTORTIONS[KINDS[kind]]
    return distort(x, strengths[level], noise).clamp(0.0, 1.0)
