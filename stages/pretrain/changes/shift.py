"""`shift`: a picture moved by a few whole pixels, its edges reflected.

Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2 (there with black edges): the
usual augmentation of 32-pixel images.

Checked by: tests/stages/pretrain/changes/test_view_moments.py (mean and variance in closed form).

Shape legend: B images, n moved ones, C channels, S side in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from reprise.config.params import meaning
from reprise.training.change import Change, ChangeParams, Drawn, Frame


class ShiftParams(ChangeParams):
    """Parameters of `shift`."""

    pixels: Annotated[
        int, Field(ge=1, le=256), meaning("Images move by up to this many pixels each way, all as likely.", "pixels")
    ] = 4


class Shift(Change):
    """A translation by whole pixels."""

    Params = ShiftParams
    params: ShiftParams

    def draw(self, frame: Frame, rng: torch.Generator) -> Drawn:
        """Draw `offset` (B, 2), how far each image moves down and right in pixels."""
        most = min(self.params.pixels, frame.size - 1)  # no more can be reflected
        offset = torch.randint(-most, most + 1, (frame.count, 2), generator=rng)
        return {"offset": offset, "applied": self.flags(frame.count, rng)}

    def changed(self, x: Tensor, drawn: Drawn) -> Tensor:
        """Take each pixel from where it was."""
        place = torch.arange(x.shape[-1], device=x.device)
        down, across = (_reflected(place - drawn["offset"][:, axis, None], x.shape[-1]) for axis in (0, 1))
        image = torch.arange(len(x), device=x.device)[:, None, None]
        return x.permute(0, 2, 3, 1)[image, down[:, :, None], across[:, None]].permute(0, 3, 1, 2).contiguous()

    def carried(self, masks: Tensor, drawn: Drawn) -> Tensor:
        """Move masks like their images."""
        return self.changed(masks, drawn)

    def outcomes(self, x: Tensor) -> Iterator[tuple[float, Tensor]]:
        """Yield every translation."""
        size = x.shape[-1]
        most = min(self.params.pixels, size - 1)
        wide = F.pad(x, (most,) * 4, mode="reflect")
        share = 1.0 / (2 * most + 1) ** 2
        for down in range(2 * most + 1):
            for across in range(2 * most + 1):
                yield share, wide[:, :, down : down + size, across : across + size]


def _reflected(place: Tensor, size: int) -> Tensor:
    """Turn places beyond an edge back at the edge's pixel."""
    place = place.abs()
    return torch.where(place >= size, 2 * (size - 1) - place, place)
