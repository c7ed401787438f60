"""`volume_intensity`: the values of a volume brighter or darker, of more or less contrast, and bent by a gamma.

Source: Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation",
Nature Methods 2021, supplement (brightness, contrast and gamma of volumes), at contrastive learning's strength.

Checked by: tests/stages/pretrain/changes/test_volume_changes.py; docs/measurements/volumes.md.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from reprise.config.params import meaning
from reprise.media.lookup import VOLUME
from reprise.training.change import ByView, Change, ChangeParams, Drawn, Frame


class VolumeIntensityParams(ChangeParams):
    """Parameters of `volume_intensity`."""

    probability: Annotated[
        ByView, meaning("A view is changed with this probability; a list has one for each view.")
    ] = 0.8
    brightness: Annotated[
        float, Field(ge=0, le=1), meaning("Up to this much is added to all values, or taken from them, on 0..1.")
    ] = 0.2
    contrast: Annotated[
        float, Field(ge=0, lt=1), meaning("The distance from the mean changes by up to this share.")
    ] = 0.4
    gamma: Annotated[
        float, Field(ge=1, le=10), meaning("Values are raised to a power between 1 / gamma and gamma.")
    ] = 1.5


class VolumeIntensity(Change):
    """Contrast about the volume's mean, then brightness, then gamma; all channels alike, and cut to 0..1 at the end."""

    Params = VolumeIntensityParams
    modalities = (VOLUME,)
    keeps_places = True

    def draw(self, frame: Frame, rng: torch.Generator) -> Drawn:
        """Draw `shift`, `factor` and `power`, each (B,), and which volumes are changed."""
        own, bend = self.params, math.log(self.params.gamma)

        def uniform(low: float, high: float) -> Tensor:
            return torch.empty(frame.count).uniform_(low, high, generator=rng)

        return {
            "shift": uniform(-own.brightness, own.brightness),
            "factor": uniform(1 - own.contrast, 1 + own.contrast),
            "power": torch.exp(uniform(-bend, bend)),
            "applied": self.flags(frame.count, rng),
        }

    def changed(self, x: Tensor, drawn: Drawn) -> Tensor:
        """Change the values of (n, C, S, S, S)."""
        shift, factor, power = (drawn[name].view(-1, 1, 1, 1, 1) for name in ("shift", "factor", "power"))
        mean = x.mean(dim=(1, 2, 3, 4), keepdim=True)
        return ((x - mean) * factor + mean + shift).clamp_(0.0, 1.0) ** power
