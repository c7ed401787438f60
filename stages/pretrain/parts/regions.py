"""Local features of a backbone, pooled over the objects of a mask.

Shape legend: B images, D width, h x w places, S side of a view in pixels, R numbers of objects, the background first.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reprise.config.errors import TrainingError
from reprise.networks.local_features import local_features


def wide_places(backbone: nn.Module, images: Tensor, width: int, method: str) -> Tensor:
    """Compute local features that are as wide as the features: (B, C, S, S) -> (B, D, h, w).

    Args:
        backbone: of the method.
        images: (B, C, S, S).
        width: D, of the features.
        method: its name, for the message.

    Raises:
        TrainingError: the backbone has none, or they are of another width.
    """
    places = local_features(backbone, images)
    if places is None or places.shape[1] != width:
        found = "none" if places is None else f"{places.shape[1]} numbers for a place, {width} for an image"
        raise TrainingError(
            f"the method '{method}' needs local features as wide as the features",
            where="runs, adapt: method",
            found=found,
            fix="Choose another method, or a backbone with such features (docs/reference/probes.md, dense).",
        )
    return places


def pooled_regions(places: Tensor, mask: Tensor, numbers: int) -> tuple[Tensor, Tensor]:
    """Average local features over each object, a place counting by the share of it that the object covers.

    Args:
        places: (B, D, h, w).
        mask: (B, S, S) integers below `numbers`.
        numbers: R.

    Returns:
        (B, R, D) means, 0 where an object is not seen; (B, R) the share of the image that each covers.
    """
    of_object = F.one_hot(mask.long(), numbers).permute(0, 3, 1, 2).to(places.dtype)
    cover = F.adaptive_avg_pool2d(of_object, places.shape[-2:]).flatten(2)  # (B, R, h w)
    total = cover.sum(dim=2, keepdim=True)
    means = torch.einsum("brl,bdl->brd", cover, places.flatten(2)) / total.clamp(min=1e-6)
    return means, total[:, :, 0] / cover.shape[2]
