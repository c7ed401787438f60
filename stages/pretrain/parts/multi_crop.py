"""Multi-crop: two large crops and several small ones of every image.

Source: Caron et al. 2020 (SwAV), section 3.2: large crops cover 14 to 100 % of the area at 224 pixels, six small ones
5 to 14 % at 96. Sides are stated here as a share of the run's image size, so that 32-pixel images work alike: 96 / 224
is about 0.43.

Deviation: on tiny images a crop of 5 % holds a handful of pixels, so the limits are parameters.
"""

from __future__ import annotations

from itertools import groupby
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from reprise.config.params import StrictModel, meaning
from stages.pretrain.views.settings import ViewSettings

LARGE = 2  # large crops; the assignments come from these
MULTIPLE = 4  # small crops have a side that patches of 4 pixels fill


ScaleSplit = Annotated[
    float, Field(gt=0, lt=1), meaning("Large crops cover more than this share of the area, small ones less.")
]


class MultiCropParams(StrictModel):
    """Parameters of every method with small crops besides the large ones."""

    small_crops: Annotated[
        int, Field(ge=0, le=32), meaning("Each image gives this many small crops; 0 for none.", "crops")
    ] = 6
    small_size: Annotated[
        float, Field(gt=0, le=1), meaning("The side of small crops is this share of the image's side.")
    ] = 0.43
    scale_split: ScaleSplit = 0.14
    small_scale_min: Annotated[
        float, Field(gt=0, lt=1), meaning("The smallest crops cover this share of the image's area.")
    ] = 0.05


def multi_crop_plan(settings: ViewSettings, params: MultiCropParams, multiple: int = MULTIPLE) -> list[ViewSettings]:
    """Plan two large views, then the small ones, whose side is a multiple of `multiple` pixels."""
    large = settings.cropped(params.scale_split)
    side = max(multiple, multiple * round(settings.size * params.small_size / multiple))
    least = min(params.small_scale_min, params.scale_split)
    small = settings.cropped(least, params.scale_split, size=min(side, settings.size))
    return [large] * LARGE + [small] * params.small_crops


def embed_crops(backbone: nn.Module, views: list[Tensor]) -> Tensor:
    """Embed the crops in one pass for each size, in the order of the views: (V B, d)."""
    return torch.cat([backbone(torch.cat(list(group))) for _, group in groupby(views, key=lambda v: v.shape[-1])])
