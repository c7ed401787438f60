"""`volume_crop`: a random box of a volume, scaled to the side of the view.

Source: the random resized crop of Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, with a third axis; Taleb
et al., "3D Self-Supervised Methods for Medical Imaging", NeurIPS 2020, cut volumes for contrastive learning.

Checked by: tests/stages/pretrain/changes/test_volume_changes.py; docs/measurements/volumes.md.
"""

from __future__ import annotations

import math
from typing import Annotated, Self

import torch
from pydantic import Field, model_validator

from reprise.config.params import meaning
from reprise.media.lookup import VOLUME
from reprise.training.change import Cut, CutParams, Drawn, Frame


class VolumeCropParams(CutParams):
    """Parameters of `volume_crop`."""

    scale_min: Annotated[float, Field(gt=0, le=1), meaning("The smallest box covers this share of the volume.")] = 0.3
    scale_max: Annotated[float, Field(gt=0, le=1), meaning("The largest box covers this share of the volume.")] = 1.0
    aspect: Annotated[
        float,
        Field(ge=1, le=10),
        meaning("Each side of a box is at most this many times as long as another, measured by the volume's sides."),
    ] = 4 / 3

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.scale_min > self.scale_max:
            raise ValueError(f"scale_min, {self.scale_min:g}, is above scale_max, {self.scale_max:g}")
        return self


class VolumeCrop(Cut):
    """The share is uniform; sides differ from a cube's by factors that are uniform in their logarithm."""

    Params = VolumeCropParams
    modalities = (VOLUME,)

    def draw(self, frame: Frame, rng: torch.Generator) -> Drawn:
        """Draw `boxes` (B, 6): the corner along depth, height and width, then the lengths, in whole values."""
        own, count = self.params, frame.count
        share = torch.empty(count, 1).uniform_(own.scale_min, own.scale_max, generator=rng)
        half = math.log(own.aspect) / 2
        shape = torch.empty(count, 3).uniform_(-half, half, generator=rng)
        part = torch.exp(shape - shape.mean(dim=1, keepdim=True)) * share ** (1 / 3)
        corner = torch.rand(count, 3, generator=rng)
        sides = torch.stack([torch.as_tensor(s, dtype=torch.float32).expand(count) for s in frame.sides], dim=1)
        length = torch.minimum(torch.round(part * sides).clamp(min=1.0), sides)
        return {"boxes": torch.cat([torch.floor(corner * (sides - length + 1)), length], dim=1)}

    @property
    def smallest_area(self) -> float:
        """Share of a volume that the smallest box covers."""
        return float(self.params.scale_min)
