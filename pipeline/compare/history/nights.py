"""Keep the figures of each completed run of a flow, so that nights that nobody committed can be followed, too.

A night is a file in .reprise/flows/nights. It is working state: its loss costs the memory of that night only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline.compare.history.records import read_records, store_record
from pipeline.compare.revisions import Figure, Measurements
from pipeline.compare.sides.inputs import SideInputs
from pipeline.graph.workspace import STATE

NIGHTS = STATE / "flows" / "nights"
_LARGEST = 16 << 20  # bytes of a file


@dataclass(frozen=True)
class Night:
    """A completed run of a flow.

    Attributes:
        ended: when it ended, in UTC.
        commit: the commit that was checked out; empty where there was none.
        inputs: what the figures were made from.
        measured: means, and figures by seed.
    """

    ended: datetime
    commit: str
    inputs: SideInputs
    measured: Measurements


def store_night(ended: datetime, commit: str, inputs: SideInputs, measured: Measurements, root: Path = Path()) -> Path:
    """Store the figures of a completed run, and remove the oldest of too many.

    Args:
        ended: when it ended, with a zone.
        commit: the commit that is checked out; empty where there is none.
        inputs: what the figures were made from.
        measured: the figures.
        root: the project folder.
    """
    seeds = {
        metric: {run: {str(seed): list(figure) for seed, figure in by_seed.items()} for run, by_seed in by_run.items()}
        for metric, by_run in measured.seeds.items()
    }
    content = {
        "commit": commit,
        "parameters": inputs.parameters,
        "images": inputs.images,
        "means": {run: dict(values) for run, values in measured.means.items()},
        "seeds": seeds,
    }
    return store_record(root / NIGHTS, ended, content)


def read_nights(root: Path = Path()) -> tuple[list[Night], list[str]]:
    """Return the nights, oldest first, and the names of files that cannot be read."""
    nights, unreadable = read_records(root / NIGHTS, _LARGEST, _night)
    return sorted(nights, key=lambda night: night.ended), unreadable


def _night(ended: datetime, raw: Mapping[str, Any]) -> Night:
    parameters = raw["parameters"]
    if not (parameters is None or isinstance(parameters, dict)):
        raise TypeError("parameters are no mapping")
    means = {
        str(run): {str(metric): float(value) for metric, value in values.items()}
        for run, values in raw["means"].items()
    }
    seeds = {
        str(metric): {
            str(run): {int(seed): _figure(figure) for seed, figure in by_seed.items()}
            for run, by_seed in by_run.items()
        }
        for metric, by_run in raw["seeds"].items()
    }
    return Night(
        ended, str(raw["commit"]), SideInputs(parameters, str(raw["images"])), Measurements("night", means, seeds)
    )


def _figure(values: Any) -> Figure:
    value, low, high = values
    return Figure(float(value), *(None if end is None else float(end) for end in (low, high)))
