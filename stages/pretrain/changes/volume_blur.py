"""`volume_blur`: a volume blurred along its three axes by a Gaussian of random width.

Source: Chen, Kornblith, Norouzi, Hinton, "A Simple Framework for Contrastive Learning of Visual Representations", ICML
2020, appendix A, with a third axis. The width is a share of the side, because views of volumes are small.

Checked by: tests/stages/pretrain/changes/test_volume_changes.py; docs/measurements/volumes.md.
"""

from __future__ import annotations

from typing import Annotated, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from reprise.config.params import meaning
from reprise.media.lookup import VOLUME
from reprise.training.change import ByView, Change, ChangeParams, Drawn, Frame

Share = Annotated[float, Field(gt=0, le=0.25)]


class VolumeBlurParams(ChangeParams):
    """Parameters of `volume_blur`."""

    probability: Annotated[
        ByView, meaning("A view is blurred with this probability; a list has one for each view.")
    ] = 0.3
    sigma_min: Annotated[Share, meaning("The blur has at least this standard deviation.", "share of the side")] = 0.005
    sigma_max: Annotated[Share, meaning("The blur has at most this standard deviation.", "share of the side")] = 0.04

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.sigma_min > self.sigma_max:
            raise ValueError(f"sigma_min, {self.sigma_min:g}, is above sigma_max, {self.sigma_max:g}")
        return self


class VolumeBlur(Change):
    """A Gaussian whose weights sum to 1 at the borders too: three matrix products for each volume."""

    Params = VolumeBlurParams
    modalities = (VOLUME,)
    keeps_places = True

    def draw(self, frame: Frame, rng: torch.Generator) -> Drawn:
        """Draw `sigma` (B,) as shares of the side, and which volumes are blurred."""
        sigma = torch.empty(frame.count).uniform_(self.params.sigma_min, self.params.sigma_max, generator=rng)
        return {"sigma": sigma, "applied": self.flags(frame.count, rng)}

    def changed(self, x: Tensor, drawn: Drawn) -> Tensor:
        """Blur (n, C, S, S, S), each volume with its own sigma."""
        side = x.shape[-1]
        place = torch.arange(side, device=x.device, dtype=torch.float32)
        apart = (place[:, None] - place[None]).square()
        weights = torch.exp(-0.5 * apart[None] / (drawn["sigma"] * side).square().view(-1, 1, 1))
        weights = (weights / weights.sum(dim=2, keepdim=True)).to(x.dtype)
        x = torch.einsum("nai,ncijk->ncajk", weights, x)
        x = torch.einsum("naj,ncijk->nciak", weights, x)
        return torch.einsum("nak,ncijk->ncija", weights, x)
