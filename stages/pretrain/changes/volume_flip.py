"""`volume_flip`: a volume mirrored along each of its axes by itself.

Source: no publication; every library of augmentation for volumes has it.

Checked by: tests/stages/pretrain/changes/test_volume_changes.py; docs/measurements/volumes.md.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from reprise.config.params import Probability, meaning
from reprise.media.lookup import VOLUME
from reprise.training.change import Change, ChangeParams, Drawn, Frame

Axis = Literal["depth", "height", "width"]
AXES: tuple[Axis, ...] = ("depth", "height", "width")


class VolumeFlipParams(ChangeParams):
    """Parameters of `volume_flip`."""

    axes: Annotated[
        list[Axis],
        Field(min_length=1, max_length=3),
        meaning("Volumes are mirrored along these axes; organs that lie left or right allow no `width`."),
    ] = Field(default_factory=lambda: list(AXES))
    chance_of_axis: Annotated[Probability, meaning("Along each of them with this probability.")] = 0.5


class VolumeFlip(Change):
    """Each axis is mirrored or not, whatever the others are."""

    Params = VolumeFlipParams
    modalities = (VOLUME,)

    def draw(self, frame: Frame, rng: torch.Generator) -> Drawn:
        """Draw `mirrored` (B, 3) bool, along depth, height and width, and which volumes are changed."""
        mirrored = torch.rand(frame.count, 3, generator=rng) < self.params.chance_of_axis
        allowed = torch.tensor([axis in self.params.axes for axis in AXES])
        return {"mirrored": mirrored & allowed, "applied": self.flags(frame.count, rng)}

    def changed(self, x: Tensor, drawn: Drawn) -> Tensor:
        """Mirror (n, C, S, S, S)."""
        for axis in range(3):
            chosen = drawn["mirrored"][:, axis].view(-1, 1, 1, 1, 1)
            x = torch.where(chosen, x.flip(axis + 2), x)
        return x
