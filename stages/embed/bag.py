"""An image as a bag of patches: the mean of what a backbone says of crops of one fixed area.

Source: Chen, Bardes, Li, LeCun, "Bag of Image Patch Embedding Behind the Success of Self-Supervised Learning", TMLR
2023; Tong et al., "EMP-SSL", arXiv 2304.03977, embed so.

A backbone that was trained on crops of one area knows images of that scale. The patches lie at the same places in every
image, spread evenly by a sequence of Roberts that any number of patches may use the beginning of. The features are
averaged as they are, before any normalisation.

Shape legend: n images, C channels, S side in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_PLASTIC = 1.32471795724474602596  # the sequence steps by 1 / p across and by 1 / p^2 down, p^3 = p + 1


class BagOfPatches(nn.Module):
    """A network that sees patches in place of whole images.

    Args:
        network: (n, C, S, S) -> features by tap.
        patches: how many.
        area: of each, as a share of the image's.
    """

    def __init__(self, network: nn.Module, patches: int, area: float) -> None:
        super().__init__()
        self.network, self.patches, self.area = network, patches, area

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Average the features of all patches, each scaled to the size of the image: {tap: (n, d)}."""
        total: dict[str, Tensor] = {}
        for top, left, side in patch_places(self.patches, self.area, x.shape[-1]):
            patch = F.interpolate(
                x[:, :, top : top + side, left : left + side], size=x.shape[-2:], mode="bilinear", antialias=True
            )
            found: Mapping[str, Tensor] = self.network(patch.contiguous(memory_format=torch.channels_last))
            total = {name: value.float() + total.get(name, 0.0) for name, value in found.items()}
        return {name: value / self.patches for name, value in total.items()}


def patch_places(patches: int, area: float, size: int) -> list[tuple[int, int, int]]:
    """Return top, left and side in pixels of each patch; the first one lies in the middle.

    Args:
        patches: how many.
        area: of each, as a share of the image's.
        size: S.
    """
    side = max(1, min(size, round(size * area**0.5)))
    room = size - side
    places = [((0.5 + k / _PLASTIC**2) % 1.0, (0.5 + k / _PLASTIC) % 1.0) for k in range(patches)]
    return [(round(down * room), round(across * room), side) for down, across in places]
