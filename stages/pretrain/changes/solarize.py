"""`solarize`: bright pixels inverted.

Source: Grill et al., "Bootstrap Your Own Latent", NeurIPS 2020, appendix B.

Checked by: tests/stages/pretrain/views/test_views.py; tests/stages/pretrain/views/test_view_parameters.py (the
distribution of both forms).
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from reprise.config.params import meaning
from reprise.training.change import ByView, Change, ChangeParams, Drawn, Frame

THRESHOLD = 0.5


class SolarizeParams(ChangeParams):
    """Parameters of `solarize`."""

    probability: Annotated[
        ByView, meaning("A view is solarized with this probability; a list has one for each view.")
    ] = 0.2
    threshold: Annotated[float, Field(ge=0, le=1), meaning("Values from this share of white on are inverted.")] = (
        THRESHOLD
    )


class Solarize(Change):
    """What is bright becomes dark."""

    Params = SolarizeParams
    keeps_places = True

    def draw(self, frame: Frame, rng: torch.Generator) -> Drawn:
        """Draw which images are solarized."""
        return {"applied": self.flags(frame.count, rng)}

    def changed(self, x: Tensor, drawn: Drawn) -> Tensor:
        """Invert the values at the threshold and above."""
        return torch.where(x >= self.params.threshold, 1.0 - x, x)

    def prepared_for_gpu(self, drawn: Drawn) -> Drawn:
        """Keep the flags of all images."""
        return drawn

    def apply_on_gpu(self, x: Tensor, ready: Drawn) -> Tensor:
        """Choose for each value between itself and its inverse."""
        chosen = ready["applied"].view(-1, 1, 1, 1) & (x >= self.params.threshold)
        return torch.where(chosen, 1.0 - x, x)

    def outcomes(self, x: Tensor) -> list[tuple[float, Tensor]]:
        """Yield the solarized images."""
        return [(1.0, self.changed(x, {}))]

    def transform(self, frame: Frame) -> Any:
        """Take albumentations' own."""
        import albumentations as A

        return A.Solarize(threshold_range=(self.params.threshold,) * 2, p=self.chance)

    def drawn_by(self, params: dict[str, Any], frame: Frame) -> dict[str, Any]:
        """Nothing besides the flag is drawn."""
        return {}
