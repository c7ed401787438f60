"""Trained models that are no backbones: how they learned, and images beside what is restored of them.

Checked by: tests/stages/report/sections/test_sections.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reprise.artifacts.layout import trained_model
from reprise.artifacts.weights.models import METRICS
from stages.report.drawing.thumbnails import Picture, montage
from stages.report.readers.models import STAGE, TrainedModel
from stages.report.readers.shape import expected_shape
from stages.report.section_registry import Absent
from stages.report.text import number

TITLE = "Trained models"
ORDER = 18
READS = ("models",)

PICTURE_BUDGET = 300_000  # bytes of page, over all models
SQUARE = 48  # pixels of the page to which the images of a picture are enlarged
SPLITS = {"train": "training images", "val": "val images, which it never saw"}


@dataclass(frozen=True)
class Shown:
    """A model as the page shows it.

    Args:
        name: the row of `models`.
        kind: the kind of model.
        seed: the seed shown, the lowest one.
        more_seeds: number of further seeds.
        images: number of training images.
        epochs: that it was trained for.
        losses: loss of the first and of the last epoch; None where there was none.
        errors: (root mean squared error, images in words) of each split whose images are restored.
        picture: images above, restored below; None where nothing is restored.
        scale: by which the picture is enlarged.
    """

    name: str
    kind: str
    seed: int
    more_seeds: int
    images: int
    epochs: int
    losses: tuple[str, str] | None
    errors: tuple[tuple[str, str], ...]
    picture: Picture | None
    scale: int


def show(models: tuple[TrainedModel, ...]) -> dict[str, Any] | Absent:
    """Show every model, by its lowest seed."""
    if not models:
        return Absent("No model is trained: no row of `models` in params.yaml names a kind of model.")
    names = list(dict.fromkeys(model.name for model in models))
    budget = PICTURE_BUDGET // len(names)
    return {"models": [_shown([m for m in models if m.name == name], budget) for name in names]}


def _shown(seeds: Sequence[TrainedModel], budget: int) -> Shown:
    first = seeds[0]
    picture, scale = None, 1
    if first.picture is not None:
        picture, _ = montage(first.picture.read_bytes(), str(first.picture), budget)
        scale = max(1, SQUARE * 2 // picture.height)  # two rows
    with expected_shape(trained_model(first.name, first.seed) / METRICS, STAGE):
        history = list(first.metrics.get("history") or [])
        ends = (number(history[0]["loss"]), number(history[-1]["loss"])) if history else None
        errors = first.metrics.get("squared_error") or {}
        return Shown(
            name=first.name,
            kind=str(first.config.get("model") or "unknown kind"),
            seed=first.seed,
            more_seeds=len(seeds) - 1,
            images=int(first.config.get("images") or 0),
            epochs=len(history),
            losses=ends,
            errors=tuple(
                (number(float(errors[s]) ** 0.5), words) for s, words in SPLITS.items() if errors.get(s) is not None
            ),
            picture=picture,
            scale=scale,
        )
