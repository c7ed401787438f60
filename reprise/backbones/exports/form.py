"""What every form has in common: it writes files, and says how what was written computes features again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from reprise.backbones.loaded import LoadedBackbone
from reprise.config.errors import BackboneError

TOLERANCE = 1e-4  # of the largest feature
_IMAGES = 5  # another number than the one that a form is written with

Run = Callable[[Tensor], Tensor]  # (B, C, S, S) -> (B, d), by the files that were written and by nothing else


@dataclass(frozen=True)
class Written:
    """The files of a backbone.

    Attributes:
        run: computes by them.
        usage: lines of Python that load them, for the model card.
    """

    run: Run
    usage: str


Form = Callable[[LoadedBackbone, Path], Written]  # writes the files of a backbone into a folder


def shapes(backbone: LoadedBackbone) -> str:
    """Say what goes in and what comes out, for a comment in the model card."""
    return f"(B, {', '.join(map(str, backbone.shape))}) -> (B, {backbone.num_features})"


def difference(backbone: LoadedBackbone, run: Run) -> float:
    """Return how far the features of the files are from the backbone's, as a share of the largest feature.

    Raises:
        BackboneError: farther than TOLERANCE, or of another shape.
    """
    shape = (_IMAGES, *backbone.shape)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        want, found = backbone(images), run(images)
    off = float("inf")
    if found.shape == want.shape:
        off = float((found - want).abs().max() / want.abs().max().clamp(min=1e-12))
    if not off <= TOLERANCE:
        raise BackboneError(
            "the exported files give other features than the backbone",
            where=backbone.config.get("architecture", "the backbone"),
            found=f"features of shape {tuple(found.shape)} that differ by {off:.2g} of the largest one",
            fix=f"At most {TOLERANCE:g} is allowed, so nothing was written. Choose another form with --to.",
        )
    return off


def missing(package: str, form: str) -> BackboneError:
    """Make the error of a form whose package is not installed."""
    return BackboneError(
        f"the form `{form}` needs a package that is not installed",
        where="reprise export",
        found=f"no {package}",
        fix='Install what exports need: pip install "reprise[export]".',
    )
