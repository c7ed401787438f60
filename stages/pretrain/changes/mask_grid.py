"""`mask_grid`: cells of a grid hidden under noise, for networks with convolutions.

Source: Jing, Zhu, LeCun, "Masked Siamese ConvNets", arXiv 2206.07700.

Checked by: tests/stages/pretrain/changes/test_views_as_files.py (area, independence, noise);
docs/measurements/views.md.

Idea: a convolution sees the edges of a mask, and flat cells change the statistics of a batch, so cells are filled with
noise. Channels are masked apart from each other in most images, so that the colour of a hidden cell is no cue. In some
images one window stays and everything else is hidden (`focal`).

Deviations: cells are stated in pixels (4 of 32, where the paper has 32 of 224). Noise lies around the middle of the
scale and is cut off at black and white. The high-pass filter that the paper applies first is not part of this.

Shape legend: B images, n masked ones, C channels, G cells along a side, S side in pixels.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from reprise.config.params import Probability, meaning
from reprise.training.change import Change, ChangeParams, Drawn, Frame
from stages.pretrain.parts.pixels.noise import covering, draw_noise

MIDDLE = 0.5  # of the scale from black to white


class MaskGridParams(ChangeParams):
    """Parameters of `mask_grid`."""

    cell: Annotated[int, Field(ge=1, le=1024), meaning("Cells are squares of this side.", "pixels")] = 4
    ratio: Annotated[float, Field(gt=0, lt=1), meaning("This share of the cells is hidden.")] = 0.3
    focal: Annotated[Probability, meaning("With this probability one window stays and all other cells are hidden.")] = (
        0.2
    )
    channels_apart: Annotated[
        Probability, meaning("With this probability each channel has a mask of its own; focal masks have none.")
    ] = 0.7
    noise: Annotated[
        float,
        Field(ge=0, le=1),
        meaning("Hidden cells hold noise of this standard deviation, as a share of white; 0 leaves them grey."),
    ] = 0.25


class MaskGrid(Change):
    """Hidden cells."""

    Params = MaskGridParams
    keeps_places = True
    params: MaskGridParams

    def draw(self, frame: Frame, rng: torch.Generator) -> Drawn:
        """Draw `hidden` (B, C, G, G) bool, and `noise` (B, C, T, T), a tile of standard normal values."""
        count, channels, cells = frame.count, frame.channels, -(-frame.size // self.params.cell)
        order = torch.rand(count, channels, cells * cells, generator=rng)
        together = torch.rand(count, generator=rng) >= self.params.channels_apart
        order[together] = order[together, :1].expand(-1, channels, -1)
        hidden = ranks(order) < round(self.params.ratio * cells * cells)
        hidden = hidden.view(count, channels, cells, cells)
        window = all_but_a_window(count, cells, self.params.ratio, rng)
        focal = torch.rand(count, generator=rng) < self.params.focal
        hidden[focal] = window[focal, None].expand(-1, channels, -1, -1)
        noise = draw_noise(count, channels, frame.size, rng)
        return {"hidden": hidden, "noise": noise, "applied": self.flags(count, rng)}

    def changed(self, x: Tensor, drawn: Drawn) -> Tensor:
        """Fill the hidden cells."""
        size, cell = x.shape[-1], self.params.cell
        hidden = drawn["hidden"].repeat_interleave(cell, 2).repeat_interleave(cell, 3)[..., :size, :size]
        filling = (MIDDLE + self.params.noise * covering(drawn["noise"], size)).clamp_(0.0, 1.0).to(x.dtype)
        return torch.where(hidden, filling, x)


def ranks(values: Tensor) -> Tensor:
    """Return the rank of each value along the last dimension, counted from 0."""
    return values.argsort(dim=-1).argsort(dim=-1)


def all_but_a_window(count: int, cells: int, ratio: float, rng: torch.Generator) -> Tensor:
    """Draw masks that hide all cells but those of one window, which has the share 1 - ratio of them.

    Returns:
        (count, G, G) bool; the window's sides differ by at most one cell.
    """
    seen = round((1.0 - ratio) * cells * cells)
    height = max(1, min(cells, round(seen**0.5)))
    width = max(1, min(cells, round(seen / height)))
    top = torch.randint(cells - height + 1, (count, 1, 1), generator=rng)
    left = torch.randint(cells - width + 1, (count, 1, 1), generator=rng)
    row, column = torch.arange(cells).view(1, -1, 1), torch.arange(cells).view(1, 1, -1)
    return ~((row >= top) & (row < top + height) & (column >= left) & (column < left + width))
