"""`volume_noise`: Gaussian noise of random strength on every value of a volume.

Source: Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation",
Nature Methods 2021, supplement.

Deviation: beyond 32 values a side the noise repeats, so that drawing it costs little for large views.

Checked by: tests/stages/pretrain/changes/test_volume_changes.py; docs/measurements/volumes.md.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from reprise.config.params import meaning
from reprise.media.lookup import VOLUME
from reprise.training.change import ByView, Change, ChangeParams, Drawn, Frame

TILE = 32  # values a side


class VolumeNoiseParams(ChangeParams):
    """Parameters of `volume_noise`."""

    probability: Annotated[
        ByView, meaning("A view gets noise with this probability; a list has one for each view.")
    ] = 0.3
    std: Annotated[
        float, Field(gt=0, le=1), meaning("The noise has at most this standard deviation, on the 0..1 scale.")
    ] = 0.1


class VolumeNoise(Change):
    """White noise, cut to 0..1 with the values."""

    Params = VolumeNoiseParams
    modalities = (VOLUME,)
    keeps_places = True

    def draw(self, frame: Frame, rng: torch.Generator) -> Drawn:
        """Draw `noise` (B, C, T, T, T), `strength` (B,), and which volumes are changed."""
        side = min(frame.size, TILE)
        return {
            "noise": torch.randn(frame.count, frame.channels, side, side, side, generator=rng),
            "strength": torch.rand(frame.count, generator=rng) * self.params.std,
            "applied": self.flags(frame.count, rng),
        }

    def changed(self, x: Tensor, drawn: Drawn) -> Tensor:
        """Add noise to (n, C, S, S, S)."""
        side, tile = x.shape[-1], drawn["noise"]
        times = -(-side // tile.shape[-1])
        noise = tile.repeat(1, 1, times, times, times)[..., :side, :side, :side] if times > 1 else tile
        return (x + drawn["strength"].view(-1, 1, 1, 1, 1) * noise).clamp_(0.0, 1.0)
