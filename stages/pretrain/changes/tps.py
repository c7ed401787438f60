"""`tps`: a warp by thin plates, which carries masks and boxes along.

Source: Bookstein, "Principal Warps: Thin-Plate Splines and the Decomposition of Deformations", TPAMI 1989; the warp is
that of Ren et al., "Cloth Interactive Transformer for Virtual Try-On", arXiv 2104.05519, of which nothing else is here.

Checked by: tests/stages/pretrain/changes/test_views_as_files.py (control points, identity, inverse, masks and boxes).

Idea: control points on a grid move at random, and the thin plate through them that bends least moves all other places.
The plate maps places of the view to places of the image, so it says for each pixel where it is taken from.

Shape legend: B images, N control points along a side, P = N^2, S side in pixels.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from reprise.config.params import meaning
from reprise.training.change import Change, ChangeParams, Drawn, Frame
from stages.pretrain.parts.pixels.warps import places, warped, warped_boxes


class TPSParams(ChangeParams):
    """Parameters of `tps`."""

    points: Annotated[int, Field(ge=2, le=16), meaning("The grid has this many control points along a side.")] = 4
    sigma: Annotated[
        float, Field(ge=0, le=0.5), meaning("Control points move by this share of the side (one standard deviation).")
    ] = 0.04


class TPS(Change):
    """A thin plate through points that moved."""

    Params = TPSParams
    params: TPSParams

    def draw(self, frame: Frame, rng: torch.Generator) -> Drawn:
        """Draw `offsets` (B, P, 2): how far each control point moves right and down; the side is 2."""
        offsets = torch.randn(frame.count, self.params.points**2, 2, generator=rng) * (2.0 * self.params.sigma)
        return {"offsets": offsets, "applied": self.flags(frame.count, rng)}

    def changed(self, x: Tensor, drawn: Drawn) -> Tensor:
        """Take each pixel from its source."""
        return warped(x, self.source(drawn, x.shape[-1]))

    def source(self, drawn: Drawn, size: int) -> Tensor:
        """Return where each pixel is taken from: (B, S, S, 2)."""
        offsets = drawn["offsets"].float()
        plate = plate_matrix(size, self.params.points).to(offsets.device)
        return places(size, offsets.device) + (plate @ offsets).view(-1, size, size, 2)

    def carried(self, masks: Tensor, drawn: Drawn) -> Tensor:
        """Warp masks like the images that they belong to; see `Change.carried`."""
        return warped(masks, self.source(drawn, masks.shape[-1]), "nearest")

    def carried_boxes(self, boxes: Tensor, drawn: Drawn, size: int) -> Tensor:
        """Find what became of boxes (B, 4) top, left, height, width in pixels of the view."""
        return warped_boxes(boxes, self.source(drawn, size))


def control_points(points: int) -> Tensor:
    """Return the control points at rest: (P, 2) float64 in [-1, 1], the outer ones on the edges."""
    along = torch.linspace(-1.0, 1.0, points, dtype=torch.float64)
    return torch.stack(torch.meshgrid(along, along, indexing="xy"), dim=2).view(-1, 2)


@lru_cache(maxsize=16)
def plate_matrix(size: int, points: int) -> Tensor:
    """Compute how each pixel moves with the control points: (S^2, P). The plate is linear in their offsets."""
    return plate_at(places(size).double().view(-1, 2), points).float()


def plate_at(where: Tensor, points: int) -> Tensor:
    """Compute how places (Q, 2) move with the control points: (Q, P) float64."""
    rest = control_points(points)
    count = len(rest)
    system = torch.zeros(count + 3, count + 3, dtype=torch.float64)
    system[:count, :count] = _bending(rest, rest)
    system[:count, count:] = _affine(rest)
    system[count:, :count] = _affine(rest).T
    wanted = torch.zeros(count + 3, count, dtype=torch.float64)
    wanted[:count] = torch.eye(count, dtype=torch.float64)
    weights = torch.linalg.solve(system, wanted)
    return torch.cat([_bending(where, rest), _affine(where)], dim=1) @ weights


def _bending(a: Tensor, b: Tensor) -> Tensor:
    """U(r) = r^2 log r^2 for each pair of places, 0 where they coincide."""
    squared = (a[:, None] - b).square().sum(dim=2)
    return squared * squared.clamp(min=1e-300).log()


def _affine(a: Tensor) -> Tensor:
    return torch.cat([torch.ones(len(a), 1, dtype=a.dtype), a], dim=1)
