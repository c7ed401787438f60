"""`flip`: a mirrored image.

Directly after a cut it costs nothing, since the cut then resizes with mirrored weights.

Source: no publication; every library of image augmentation has it.

Checked by: tests/stages/pretrain/views/test_views.py; tests/stages/pretrain/views/test_view_parameters.py (the
distribution of both forms).
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
from torch import Tensor

from reprise.config.params import meaning
from reprise.training.change import ByView, Change, ChangeParams, Drawn, Frame


class FlipParams(ChangeParams):
    """Parameters of `flip`."""

    probability: Annotated[
        ByView,
        meaning("A view is mirrored left to right with this probability; a list has one for each view."),
    ] = 0.5


class Flip(Change):
    """Left becomes right."""

    Params = FlipParams
    mirrors = True  # a cut before it may mirror in its place

    def draw(self, frame: Frame, rng: torch.Generator) -> Drawn:
        """Draw which images are mirrored."""
        return {"applied": self.flags(frame.count, rng)}

    def changed(self, x: Tensor, drawn: Drawn) -> Tensor:
        """Mirror (n, C, S, S) left to right."""
        return x.flip(3)

    def carried(self, masks: Tensor, drawn: Drawn) -> Tensor:
        """Mirror masks like their images."""
        return masks.flip(3)

    def outcomes(self, x: Tensor) -> list[tuple[float, Tensor]]:
        """Yield the mirrored images."""
        return [(1.0, x.flip(3))]

    def transform(self, frame: Frame) -> Any:
        """Take albumentations' own."""
        import albumentations as A

        return A.HorizontalFlip(p=self.chance)

    def drawn_by(self, params: dict[str, Any], frame: Frame) -> dict[str, Any]:
        """Nothing besides the flag is drawn."""
        return {}
