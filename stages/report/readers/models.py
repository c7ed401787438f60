"""Models that are no backbones: what the stage train_models wrote to data/trained/<seed>/models/<name>."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprise.artifacts.layout import TRAINED, trained_models
from reprise.artifacts.weights.models import CONFIG, METRICS, PICTURE
from stages.report.readers.shape import read_object

STAGE = "train_models"


@dataclass(frozen=True)
class TrainedModel:
    """A model of one seed.

    Args:
        name: the row of `models` in params.yaml.
        seed: the seed that it was trained with.
        config: config.json.
        metrics: metrics.json: `history`, one row an epoch, and figures.
        picture: images and what was restored of them; None where there is none.
    """

    name: str
    seed: int
    config: dict[str, Any]
    metrics: dict[str, Any]
    picture: Path | None


def read_models() -> tuple[TrainedModel, ...]:
    """Read all of data/trained/<seed>/models/<name>, by name and seed.

    Raises:
        ResultError: a file is damaged.
    """
    seeds = [int(f.name) for f in TRAINED.glob("*") if f.name.isdecimal() and f.name.isascii()]
    folders = [(f.name, seed, f) for seed in seeds for f in (trained_models(seed) / "models").glob("*") if f.is_dir()]
    return tuple(_model(name, seed, folder) for name, seed, folder in sorted(folders))


def _model(name: str, seed: int, folder: Path) -> TrainedModel:
    config, metrics = read_object(folder / CONFIG, STAGE), read_object(folder / METRICS, STAGE)
    picture = folder / PICTURE
    return TrainedModel(name, seed, config, metrics, picture if picture.exists() else None)
