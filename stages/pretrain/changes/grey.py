"""`grey`: an image without its colours.

Source: Chen, Kornblith, Norouzi, Hinton, "A Simple Framework for Contrastive Learning of Visual Representations",
ICML 2020, appendix A.

Checked by: tests/stages/pretrain/views/test_views.py; tests/stages/pretrain/views/test_view_parameters.py (the
distribution of both forms).
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
from torch import Tensor

from reprise.config.params import meaning
from reprise.training.change import ByView, Change, ChangeParams, Drawn, Frame
from stages.pretrain.parts.pixels.luma import luma, luma_on_gpu


class GreyParams(ChangeParams):
    """Parameters of `grey`."""

    probability: Annotated[
        ByView, meaning("A view loses its colours with this probability; a list has one for each view.")
    ] = 0.2


class Grey(Change):
    """Each pixel becomes its brightness."""

    Params = GreyParams
    keeps_places = True
    needs_rgb = True

    def happens(self, frame: Frame) -> bool:
        """Tell whether there are colours to lose."""
        return frame.channels == 3 and super().happens(frame)

    def draw(self, frame: Frame, rng: torch.Generator) -> Drawn:
        """Draw which images lose their colours."""
        return {"applied": self.flags(frame.count, rng)}

    def changed(self, x: Tensor, drawn: Drawn) -> Tensor:
        """Replace each pixel by its luma."""
        return luma(x).expand_as(x)

    def prepared_for_gpu(self, drawn: Drawn) -> Drawn:
        """Keep the flags of all images."""
        return drawn

    def apply_on_gpu(self, x: Tensor, ready: Drawn) -> Tensor:
        """Choose for each image between itself and its luma."""
        return torch.where(ready["applied"].view(-1, 1, 1, 1), luma_on_gpu(x), x)

    def outcomes(self, x: Tensor) -> list[tuple[float, Tensor]]:
        """Yield the images without colours."""
        return [(1.0, luma(x).expand_as(x))]

    def transform(self, frame: Frame) -> Any:
        """Take albumentations' own, where there are colours."""
        import albumentations as A

        return A.ToGray(p=self.chance)

    def drawn_by(self, params: dict[str, Any], frame: Frame) -> dict[str, Any]:
        """Nothing besides the flag is drawn."""
        return {}
