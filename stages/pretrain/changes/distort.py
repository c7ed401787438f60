"""`distort`: one of thirteen distortions of quality, at one of five levels.

Source: Saha, Mishra, Bovik, "Re-IQA: Unsupervised Learning for Image Quality Assessment in the Wild", CVPR 2023, whose
bank has 26 distortions. Authors' code: avinabsaha/ReIQA.

Checked by: tests/stages/pretrain/changes/test_views_as_files.py (the signal-to-noise ratio falls with the level).

As a change of views it asks for the same representation of a good and a bad picture. The method `re_iqa` asks for the
opposite.

Shape legend: B images, C channels, S side in pixels.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from reprise.config.params import meaning
from reprise.training.change import Change, ChangeParams, Drawn, Frame
from stages.pretrain.parts.pixels.distortions import KINDS, LEVELS, distorted
from stages.pretrain.parts.pixels.noise import covering, draw_noise


class DistortParams(ChangeParams):
    """Parameters of `distort`."""

    levels: Annotated[
        int, Field(ge=1, le=LEVELS), meaning("So many levels are drawn from, the mildest ones first.", "levels")
    ] = LEVELS


class Distort(Change):
    """A worse picture of the same thing."""

    Params = DistortParams
    keeps_places = True
    params: DistortParams

    def draw(self, frame: Frame, rng: torch.Generator) -> Drawn:
        """Draw `kind` (B,) of `KINDS`, `level` (B,) from 0, and `noise` (B, C, T, T)."""
        count = frame.count
        return {
            "kind": torch.randint(len(KINDS), (count,), generator=rng),
            "level": torch.randint(self.params.levels, (count,), generator=rng),
            "noise": draw_noise(count, frame.channels, frame.size, rng),
            "applied": self.flags(count, rng),
        }

    def prepared(self, drawn: Drawn) -> Drawn:
        """Sort the images by kind and level."""
        ready: Drawn = {"noise": drawn["noise"]}
        for kind in range(len(KINDS)):
            for level in range(self.params.levels):
                rows = (drawn["applied"] & (drawn["kind"] == kind) & (drawn["level"] == level)).nonzero()[:, 0]
                if len(rows):
                    ready[f"{kind}_{level}"] = rows
        return ready

    def apply(self, x: Tensor, ready: Drawn) -> Tensor:
        """Distort the images of each kind and level together."""
        for name, rows in ready.items():
            if name == "noise":
                continue
            kind, level = map(int, name.split("_"))
            noise = covering(ready["noise"][rows], x.shape[-1])
            x.index_copy_(0, rows, distorted(x[rows].float(), kind, level, noise).to(x.dtype))
        return x
