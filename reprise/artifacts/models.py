"""Weights from elsewhere in data/models, and for each run what it starts from in data/starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprise.artifacts import layout
from reprise.artifacts.results import read_json
from reprise.artifacts.weights.backbones import WEIGHTS, read_config
from reprise.config.tables import RANDOM, TIMM, AnyRun, ModelRow, RunRow

MAPPING = "mapping.json"  # what became of each tensor of the file
FACTS = "start.json"  # in the folder of a run: what its row says
START, TEACHER = "start", "teacher"  # folders below it
_AGAIN = "Run `dvc repro models`, which writes it."


@dataclass(frozen=True)
class Start:
    """What a run starts from and learns from.

    Attributes:
        name: `random`, `models/<name>`, or `runs/<name>` for another run of the table.
        folder: of the weights; None for random ones.
        config: config.json of the weights; empty for random ones.
        teacher: the folder of the teacher; None where there is none.
        teacher_name: `models/<name>` of the teacher; None where there is none.
    """

    name: str = RANDOM
    folder: Path | None = None
    config: Mapping[str, Any] | None = None
    teacher: Path | None = None
    teacher_name: str | None = None


def read_start(run: str) -> Start:
    """Read what a run starts from; a run without a folder starts from random weights.

    Raises:
        ResultError, BackboneError: a file is missing or damaged.
    """
    folder = layout.start(run)
    if not folder.exists():
        return Start()
    facts = read_json(folder / FACTS, _AGAIN)
    name, teacher = str(facts.get("from", RANDOM)), facts.get("teacher")
    start = folder / START if name != RANDOM else None
    config = None if start is None else read_config(start)
    return Start(name, start, config, folder / TEACHER if teacher else None, teacher)


def start_of(row: AnyRun, seed: int) -> Start:
    """Return what a row of `runs` or `adapt` starts from.

    Raises:
        ResultError, BackboneError: a file is missing or damaged.
    """
    if isinstance(row, RunRow):
        return read_start(row.name)
    folder = layout.run(row.parent, seed)
    return Start(row.start, folder, read_config(folder))


def architecture_of(row: ModelRow) -> str:
    """Return the architecture of a row of `models`.

    Raises:
        BackboneError: the row names a folder that has no config.json.
    """
    if row.weights.startswith(TIMM):
        return row.weights.removeprefix(TIMM)
    return row.architecture or str(read_config(folder_of(row))["architecture"])


def folder_of(row: ModelRow) -> Path:
    """Return the folder that a row names, or that its backbone.safetensors lies in."""
    path = Path(row.weights)
    return path.parent if path.name == WEIGHTS else path
