"""The views of a batch, with what was drawn for them."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from reprise.training.change import Drawn


class Views(NamedTuple):
    """V views of the images of a batch.

    Attributes:
        pixels: V tensors (B, C, S, S), normalised.
        drawn: for each view what was drawn, by the name of each change; empty where nobody wants it.
    """

    pixels: list[Tensor]
    drawn: list[dict[str, Drawn]]
