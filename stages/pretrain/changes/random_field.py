"""`random_field`: moves, turns and colours that differ from place to place.

Source: "Random Field Augmentations for Self-Supervised Representation Learning", arXiv 2311.03629.

Checked by: tests/stages/pretrain/changes/test_views_as_files.py (mean, variance and covariance, the constant field);
docs/measurements/views.md.

Idea: each parameter of an affine map and of a change of colours is a Gaussian random field over the image in place of
one number, so that near places change alike and far ones apart. A field of infinite length is one number.

Deviations: the spectrum and the strengths of the paper were not at hand. Fields have the covariance exp(-d^2 / 2 l^2)
for places d pixels apart, and one `sigma` scales eight parameters whose units are stated in `UNITS`. Fields are drawn
exactly, from the square root of that covariance along each axis. A Fourier transform would repeat at the edges.

Shape legend: B images, K = 8 fields, R waves along an axis, S side in pixels.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from reprise.config.params import meaning
from reprise.training.change import Change, ChangeParams, Drawn, Frame
from stages.pretrain.parts.pixels.hue import turned_hue
from stages.pretrain.parts.pixels.luma import luma
from stages.pretrain.parts.pixels.warps import places, warped

# What one standard deviation of a field is at sigma 1. Places: half a side, a quarter turn, a factor of e, slope 1.
# Colours: half a circle, and factors of e.
UNITS = {
    "right": 1.0, "down": 1.0, "rotation": math.pi / 2, "scale": 1.0, "shear": 1.0,
    "hue": 0.5, "saturation": 1.0, "brightness": 1.0,
}  # fmt: skip
SMALLEST = 1e-8  # waves of less than this share of a field's variance are left out


class RandomFieldParams(ChangeParams):
    """Parameters of `random_field`."""

    sigma: Annotated[
        float,
        Field(ge=0, le=2),
        meaning("All eight parameters vary by this many of their units (one standard deviation)."),
    ] = 0.1
    length: Annotated[
        Annotated[float, Field(gt=0, le=10_000)] | None,
        meaning("Places this far apart still change alike; null for the same change everywhere.", "pixels"),
    ] = 8.0
    geometry: Annotated[bool, meaning("A field moves the places of pixels.")] = True
    colour: Annotated[bool, meaning("Fields change the colours of pixels.")] = True


class RandomField(Change):
    """Eight Gaussian random fields."""

    Params = RandomFieldParams
    params: RandomFieldParams

    @property
    def turns(self) -> bool:
        """Whether a field of angles moves pixels."""
        return self.params.geometry and self.params.sigma > 0

    def draw(self, frame: Frame, rng: torch.Generator) -> Drawn:
        """Draw `waves` (B, K, R, R), standard normal; see `fields`."""
        count, waves = frame.count, root(frame.size, self.params.length).shape[1]
        drawn = torch.randn(count, len(UNITS), waves, waves, generator=rng)
        return {"waves": drawn, "applied": self.flags(count, rng)}

    def changed(self, x: Tensor, drawn: Drawn) -> Tensor:
        """Move the pixels, then change their colours."""
        size = x.shape[-1]
        own = {name: self.params.sigma * unit for name, unit in UNITS.items()}
        values = dict(zip(own, fields(drawn["waves"].float(), size, self.params.length).unbind(1), strict=True))
        values = {name: value * own[name] for name, value in values.items()}
        if self.params.geometry:
            x = warped(x, source_of(values, size))
        return recoloured(x, values) if self.params.colour else x

    def carried(self, masks: Tensor, drawn: Drawn) -> Tensor:
        """Warp masks like their images; changes of colour leave them as they are."""
        return warped(masks, self.source(drawn, masks.shape[-1]), "nearest") if self.params.geometry else masks

    def source(self, drawn: Drawn, size: int) -> Tensor:
        """Return where each pixel is taken from, for masks and boxes: (B, S, S, 2); see `parts/pixels/warps.py`."""
        values = fields(drawn["waves"].float(), size, self.params.length).unbind(1)
        scaled = [value * self.params.sigma * unit for value, unit in zip(values, UNITS.values(), strict=True)]
        return source_of(dict(zip(UNITS, scaled, strict=True)), size)


def fields(waves: Tensor, size: int, length: float | None) -> Tensor:
    """Compute fields of mean 0, variance 1 and covariance exp(-d^2 / 2 l^2): (B, K, R, R) -> (B, K, S, S)."""
    factor = root(size, length).to(waves.device)
    return factor @ waves @ factor.T


@lru_cache(maxsize=16)
def root(size: int, length: float | None) -> Tensor:
    """Compute the square root of the covariance along one axis: (S, R), rows of length 1; R is 1 for length None."""
    if length is None:
        return torch.ones(size, 1)
    place = torch.arange(size, dtype=torch.float64)
    covariance = torch.exp(-((place[:, None] - place) ** 2) / (2.0 * length**2))
    values, vectors = torch.linalg.eigh(covariance)
    kept = values > SMALLEST * size
    factor = vectors[:, kept] * values[kept].sqrt()
    return (factor / factor.norm(dim=1, keepdim=True)).float()


def source_of(values: dict[str, Tensor], size: int) -> Tensor:
    """Let each place have the affine map of its own: (B, S, S) each -> (B, S, S, 2)."""
    x, y = places(size, values["right"].device).unbind(2)
    scale = torch.exp(values["scale"])
    x, y = scale * (x + values["shear"] * y), scale * y
    cosine, sine = torch.cos(values["rotation"]), torch.sin(values["rotation"])
    return torch.stack([cosine * x - sine * y + values["right"], sine * x + cosine * y + values["down"]], dim=3)


def recoloured(x: Tensor, values: dict[str, Tensor]) -> Tensor:
    """Change brightness, and of RGB saturation and hue, at each place by its own amount: (n, C, S, S)."""
    own = {name: value[:, None].to(x.dtype) for name, value in values.items()}
    x = (x * torch.exp(own["brightness"])).clamp_(0.0, 1.0)
    if x.shape[1] != 3:
        return x
    grey = luma(x)
    x = (grey + (x - grey) * torch.exp(own["saturation"])).clamp_(0.0, 1.0)
    return turned_hue(x, own["hue"]).clamp_(0.0, 1.0)
