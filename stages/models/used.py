"""For each row of `features` a folder with the trained model that it uses; where it uses none there is only a note."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from reprise.artifacts.weights.models import CONFIG, WEIGHTS
from reprise.config.tables import FeaturesRow
from reprise.storage.atomic import write_json

NOTE = "used.json"


def used_by_features(
    raw: Mapping[str, Any], rows: Sequence[FeaturesRow], trained: Collection[str]
) -> dict[str, str | None]:
    """Name the trained model that each row of `features` uses: the entry `model` of its block in `extractors`.

    Args:
        raw: the content of params.yaml, which has been checked.
        rows: of `features`.
        trained: names of the models that are trained here; an entry `model` that means something else is passed over.
    """
    blocks = raw.get("extractors") or {}
    named = {row.name: (blocks.get(row.name) or {}).get("model") for row in rows}
    return {name: model if model in trained else None for name, model in named.items()}


def write_used(model: str | None, models: Path, folder: Path) -> None:
    """Write the folder of one row.

    Args:
        model: that it uses.
        models: the folder that holds a folder for each trained model.
        folder: to make and to write into.
    """
    folder.mkdir()
    write_json(folder / NOTE, {"model": model})
    for file in (WEIGHTS, CONFIG) if model is not None else ():
        shutil.copyfile(models / str(model) / file, folder / file)
