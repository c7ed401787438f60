"""Maps that say from where each pixel of a warped image is taken, for images, masks and boxes.

Places are stated in [-1, 1]: the left or upper edge of an image is -1, the right or lower one 1. The place of a pixel
is that of its centre.

Shape legend: B maps, S side of the output in pixels, H W sides of the input, P points.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

ROUNDS = 30  # of the inversion; each shortens the distance by the largest slope of the displacement


def places(size: int, device: torch.device | str = "cpu") -> Tensor:
    """Return the place (x, y) of every pixel of a square: (S, S, 2)."""
    centre = (torch.arange(size, device=device) + 0.5) * (2.0 / size) - 1.0
    return torch.stack(torch.meshgrid(centre, centre, indexing="xy"), dim=2)


def warped(x: Tensor, source: Tensor, mode: str = "bilinear") -> Tensor:
    """Take each pixel from its source; what lies outside of the image is reflected at the edges.

    Args:
        x: (B, C, H, W).
        source: (B, S, S, 2) places.
        mode: `bilinear`, or `nearest` for masks, so that no value arises that was not there.
    """
    kind = x.dtype if x.dtype == torch.float64 else torch.float32
    taken = F.grid_sample(x.to(kind), source.to(kind), mode=mode, padding_mode="reflection", align_corners=False)
    return taken.to(x.dtype)


def inverse_of(source: Tensor) -> Tensor:
    """Find where each place of the input went: the inverse of a map that does not fold.

    Args:
        source: (B, S, S, 2), for each place of the output that of the input.

    Returns:
        (B, S, S, 2): for each place of the input, on the same grid, that of the output.
    """
    here = places(source.shape[1], source.device).to(source.dtype).expand_as(source)
    displaced = (source - here).permute(0, 3, 1, 2)
    found = here - displaced.permute(0, 2, 3, 1)
    wider = _extended(_extended(displaced, 2), 3)
    share = source.shape[1] / wider.shape[-1]
    for _ in range(ROUNDS):  # y = x - d(y), the fixed point of which is the inverse
        moved = F.grid_sample(wider, found * share, mode="bicubic", padding_mode="border", align_corners=False)
        found = here - moved.permute(0, 2, 3, 1)
    return found


def _extended(x: Tensor, dim: int) -> Tensor:
    """Go on beyond both edges as straight as before, a quarter of the side each."""
    size = x.shape[dim]
    steps = torch.arange(1, size // 4 + 1, device=x.device, dtype=x.dtype)
    steps = steps.view([-1 if d == dim else 1 for d in range(4)])
    first, second = x.narrow(dim, 0, 1), x.narrow(dim, 1, 1)
    last, before = x.narrow(dim, size - 1, 1), x.narrow(dim, size - 2, 1)
    return torch.cat([first + steps.flip(dim) * (first - second), x, last + steps * (last - before)], dim=dim)


def warped_boxes(boxes: Tensor, source: Tensor) -> Tensor:
    """Find the smallest boxes around what boxes of the input became.

    Args:
        boxes: (B, 4) top, left, height, width in pixels of the output's size.
        source: (B, S, S, 2), a map that does not fold.

    Returns:
        (B, 4), within the image.
    """
    size = source.shape[1]
    inverse = inverse_of(source).permute(0, 3, 1, 2)
    share = torch.linspace(0.0, 1.0, 33, device=source.device, dtype=source.dtype)
    top, left, height, width = (side[:, None] for side in boxes.to(source.dtype).T)
    ends = torch.zeros_like(share), torch.ones_like(share)
    down = torch.cat([share, share, *ends]) * height + top  # points along the four edges
    across = torch.cat([*ends, share, share]) * width + left
    points = torch.stack([across, down], dim=2) * (2.0 / size) - 1.0
    moved = F.grid_sample(inverse, points[:, None], mode="bicubic", padding_mode="border", align_corners=False)[:, :, 0]
    pixels = ((moved + 1.0) * (size / 2)).clamp(0.0, float(size))
    low, high = pixels.amin(dim=2), pixels.amax(dim=2)
    return torch.stack([low[:, 1], low[:, 0], high[:, 1] - low[:, 1], high[:, 0] - low[:, 0]], dim=1)


def folded_share(source: Tensor) -> Tensor:
    """Return the share of pixels at which a map folds, that is, turns over: (B,)."""
    along, down = source[:, :-1, 1:] - source[:, :-1, :-1], source[:, 1:, :-1] - source[:, :-1, :-1]
    area = along[..., 0] * down[..., 1] - along[..., 1] * down[..., 0]
    return (area <= 0).float().mean(dim=(1, 2))
