"""`affine`: a turn, a stretch and a shift of the picture, which carry masks and boxes along.

Source: Mironenco, Forre, "Lie Group Decompositions for Equivariant Neural Networks", ICLR 2024, whose decomposition of
linear maps it draws from; its networks are not built. Affine changes of views are usual since Dosovitskiy et al.,
"Discriminative Unsupervised Feature Learning with Convolutional Neural Networks", NeurIPS 2014.

Checked by: tests/stages/pretrain/changes/test_affine.py; docs/measurements/factors.md.

Idea: every linear map of the plane that does not mirror is a turn after a symmetric stretch, in exactly one way, and
both have logarithms whose coordinates can be drawn independently (reprise/measures/geometry/affine.py):

    A = R(angle) Q(axis) diag(e^(s + u/2), e^(s - u/2)) Q(axis)^T

The angle, the size s, the stretch u along an axis, and the axis are uniform. The matrix has to be inverted only to ask
where a pixel comes from, and that cannot fail.

Deviations: the draws are not those of the group's invariant measure, under which strong stretches would be the most
frequent. What comes into the picture at its edges is its reflection, as with every warp here.

Shape legend: B images, S side in pixels; places lie in [-1, 1], the side is 2.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from reprise.config.params import meaning
from reprise.training.change import Change, ChangeParams, Drawn, Frame
from stages.pretrain.parts.pixels.warps import places, warped


class AffineParams(ChangeParams):
    """Parameters of `affine`."""

    rotation: Annotated[
        float, Field(ge=0, le=180), meaning("Pictures are turned by up to this angle either way.", "degrees")
    ] = 20.0
    scale: Annotated[float, Field(ge=1, le=4), meaning("Pictures get up to this factor larger or smaller.")] = 1.2
    stretch: Annotated[
        float,
        Field(ge=1, le=4),
        meaning("Pictures are stretched along an axis by up to this factor against the other."),
    ] = 1.3
    shift: Annotated[
        float, Field(ge=0, le=0.5), meaning("Pictures move by up to this share of their side each way.")
    ] = 0.1


class Affine(Change):
    """A linear map that keeps orientation, about the middle of the picture, and a shift."""

    Params = AffineParams
    params: AffineParams

    @property
    def turns(self) -> bool:
        """Whether an angle is drawn at all."""
        return self.params.rotation > 0

    def draw(self, frame: Frame, rng: torch.Generator) -> Drawn:
        """Draw `angle` (B,) to the right in radians, `size`, `stretch` and `axis` (B,), and `shift` (B, 2).

        `size` and `stretch` are logarithms, `axis` an angle, and `shift` says how far right and down; the side is 2.
        """
        own, count = self.params, frame.count
        share = torch.rand(count, 6, generator=rng)
        either = 2.0 * share - 1.0
        return {
            "angle": either[:, 0] * math.radians(own.rotation),
            "size": either[:, 1] * math.log(own.scale),
            "stretch": share[:, 2] * math.log(own.stretch),
            "axis": share[:, 3] * math.pi,
            "shift": either[:, 4:] * (2.0 * own.shift),
            "applied": self.flags(count, rng),
        }

    def changed(self, x: Tensor, drawn: Drawn) -> Tensor:
        """Take each pixel from its source."""
        return warped(x, self.source(drawn, x.shape[-1]))

    def source(self, drawn: Drawn, size: int) -> Tensor:
        """Return where each pixel is taken from: (B, S, S, 2)."""
        shift = drawn["shift"].float()
        away = places(size, shift.device) - shift[:, None, None]
        return torch.einsum("bij,bhwj->bhwi", inverse_of(drawn), away)

    def carried(self, masks: Tensor, drawn: Drawn) -> Tensor:
        """Move masks like the images that they belong to; see `Change.carried`."""
        return warped(masks, self.source(drawn, masks.shape[-1]), "nearest")

    def carried_boxes(self, boxes: Tensor, drawn: Drawn, size: int) -> Tensor:
        """Find the smallest boxes around what boxes became: (B, 4) top, left, height, width in pixels of the view.

        A linear map takes corners to corners, so that four points decide. Parts out of the picture are cut off.
        """
        top, left, height, width = boxes.float().T
        across = torch.stack([left, left + width, left, left + width], dim=1)
        down = torch.stack([top, top, top + height, top + height], dim=1)
        corners = torch.stack([across, down], dim=2) * (2.0 / size) - 1.0
        moved = torch.einsum("bij,bpj->bpi", matrix_of(drawn), corners) + drawn["shift"].float()[:, None]
        pixels = ((moved + 1.0) * (size / 2)).clamp(0.0, float(size))
        low, high = pixels.amin(dim=1), pixels.amax(dim=1)
        return torch.stack([low[:, 1], low[:, 0], high[:, 1] - low[:, 1], high[:, 0] - low[:, 0]], dim=1)


def matrix_of(drawn: Drawn) -> Tensor:
    """Return the linear maps (B, 2, 2) that move places (x, y) of the picture."""
    return turns(drawn["angle"]) @ stretches(drawn, 1.0)


def inverse_of(drawn: Drawn) -> Tensor:
    """Return the inverse maps in closed form: the stretch with its logarithm negated, after the turn back."""
    return stretches(drawn, -1.0) @ turns(-drawn["angle"])


def stretches(drawn: Drawn, power: float) -> Tensor:
    """Return the symmetric factors to this power: (B, 2, 2)."""
    size, half = drawn["size"].float(), drawn["stretch"].float() / 2
    along = torch.diag_embed(torch.exp(power * torch.stack([size + half, size - half], dim=1)))
    axes = turns(drawn["axis"])
    return axes @ along @ axes.transpose(1, 2)


def turns(angle: Tensor) -> Tensor:
    """Return turns from x towards y: (B,) radians -> (B, 2, 2)."""
    cosine, sine = torch.cos(angle.float()), torch.sin(angle.float())
    return torch.stack([cosine, -sine, sine, cosine], dim=1).view(-1, 2, 2)
