"""A trained model that is no backbone, on disk: `model.safetensors`, `config.json`, `metrics.json`, a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import ConfigDict, Field

from reprise.artifacts.weights.tensors import TensorFile, refuse_not_finite, write_tensors
from reprise.config.errors import BackboneError, ImageRefused
from reprise.config.params import MOST_BANDS, StrictModel, in_one_line, problems_of
from reprise.config.texts.text_forms import Name
from reprise.storage.atomic import atomic_file, write_json
from reprise.storage.listing import read_regular

WEIGHTS, CONFIG, METRICS = "model.safetensors", "config.json", "metrics.json"
PICTURE = "reconstructions.png"  # images above, restored below; absent for a kind that restores nothing
_LARGEST_CONFIG = 1 << 20  # bytes
_FIX = "Run `dvc repro train_models` to write it again, or `dvc checkout` to restore it."


class ModelConfig(StrictModel):
    """The entries of config.json from which a model is built; further entries describe the training.

    Attributes:
        name: of the row of `models`.
        model: the kind, a plug-in.
        parameters: of the kind, which checks them.
        channels: bands of the images.
        size: side in pixels of the images that it was trained on.
        seed: of the training.
    """

    model_config = ConfigDict(extra="allow")

    name: Name
    model: Name
    parameters: dict[str, Any]
    channels: Annotated[int, Field(ge=1, le=MOST_BANDS)]
    size: Annotated[int, Field(ge=1, le=1 << 14)]
    seed: Annotated[int, Field(ge=0, lt=2**31)]


def write_model(
    folder: Path, weights: dict[str, np.ndarray], config: dict[str, Any], metrics: dict[str, Any], picture: bytes | None
) -> None:
    """Write the files of a model into an existing folder.

    Args:
        folder: of the model.
        weights: of the network.
        config: with the entries of `ModelConfig`.
        metrics: `history`, one row an epoch, and figures.
        picture: the encoded PNG of restored images; None for none.

    Raises:
        BackboneError: weights that are not finite.
    """
    refuse_not_finite(weights, folder, "The training diverged: lower its learning rate.")
    write_tensors(folder / WEIGHTS, weights)
    write_json(folder / CONFIG, config)
    write_json(folder / METRICS, metrics)
    if picture is not None:
        with atomic_file(folder / PICTURE) as file:
            file.write(picture)


def read_model(folder: Path) -> tuple[ModelConfig, TensorFile]:
    """Read the configuration of a model and the header of its weights, and none of their data.

    Raises:
        BackboneError: a file is missing, damaged, or describes no model.
    """
    path = folder / CONFIG
    try:
        entries = json.loads(read_regular(path, _LARGEST_CONFIG).decode("utf-8"))
    except (ValueError, RecursionError, ImageRefused) as error:
        found = error.found if isinstance(error, ImageRefused) else error
        raise BackboneError("the model's configuration cannot be read", where=path, found=found, fix=_FIX) from error
    problems = problems_of(ModelConfig, entries, "")
    if problems:
        what = "the model's configuration describes no model of Reprise"
        raise BackboneError(what, where=path, found=in_one_line(problems), fix=_FIX)
    return ModelConfig.model_validate(entries), TensorFile.open(folder / WEIGHTS, _FIX)
