"""A finished run as trackers get it: parameters, curves, figures with intervals, and where it comes from.

All of it is read from the outputs of the graph, so runs that DVC restored from its cache are published like those that
were trained here. The key of a run is a digest of what is written: a run that is published again under the same key
would be the same, so trackers pass it over.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pipeline.compare.revisions import Figure, per_seed
from pipeline.graph.lock_file import outputs_of, read_lock
from reprise.artifacts import layout
from reprise.artifacts.weights.backbones import read_config
from reprise.config.errors import ResultError
from reprise.storage.provenance import revision

CURVES = layout.SUMMARY / "curves.csv"
_KEY_DIGITS = 16
_PARTS = {"run", "seed", "epoch", "step"}  # columns of curves.csv that are no figures


@dataclass(frozen=True)
class Finished:
    """One run and seed.

    Attributes:
        run, seed: of params.yaml.
        key: digest of its outputs.
        parameters: dotted name -> value, those that it was trained with.
        curves: figure -> (epoch, value) each, in order; values that are no finite numbers are left out.
        figures: "probe.metric" -> value with its interval.
        origin: git revision, digest of dvc.lock's data set, and the like.
    """

    run: str
    seed: int
    key: str
    parameters: Mapping[str, Any]
    curves: Mapping[str, Sequence[tuple[int, float]]]
    figures: Mapping[str, Figure]
    origin: Mapping[str, str]

    @property
    def name(self) -> str:
        """The run and its seed, as they are shown."""
        return f"{self.run}/{self.seed}"


class Tracker(Protocol):
    """Writes finished runs. It never changes or removes what somebody else has written."""

    def holds(self, key: str) -> bool:
        """Tell whether a run with this key has been written before."""
        ...

    def write(self, finished: Finished) -> None:
        """Write a run."""
        ...

    def place(self) -> str:
        """Say where the runs are, and how to look at them."""
        ...


def finished_runs(only: Sequence[str] = (), root: Path = Path()) -> list[Finished]:
    """Read all runs of the folder that have been trained and evaluated, in the order of the table.

    Args:
        only: names of runs; none means all.
        root: the project folder.

    Raises:
        ResultError: there are no results, they cannot be read, or a run of `only` has none.
    """
    for needed in (layout.TABLE, CURVES):
        if not (root / needed).is_file():
            raise ResultError(
                "there are no results yet", where=root / needed, found="no file", fix="Run `reprise repro`."
            )
    table, curves = per_seed((root / layout.TABLE).read_bytes()), _curves(root / CURVES)
    pairs = list(
        dict.fromkeys((run, seed) for by_run in table.values() for run, seeds in by_run.items() for seed in seeds)
    )
    if unknown := [name for name in only if name not in {run for run, _ in pairs}]:
        raise ResultError(
            f"the run '{unknown[0]}' has no results",
            where=root / layout.TABLE,
            found=", ".join(sorted({run for run, _ in pairs})) or "no run",
            fix="Name one of these, or run `reprise repro`.",
        )
    outputs = outputs_of(read_lock(root))
    origin = {"git revision": revision(), "data": outputs.get(str(layout.INGEST), "")}
    found = []
    for run, seed in pairs:
        if only and run not in only:
            continue
        figures = {name: by_run[run][seed] for name, by_run in table.items() if seed in by_run.get(run, {})}
        parameters = dict(_flat(_trained_with(root / layout.run(run, seed))))
        key = _key(run, seed, parameters, curves.get((run, seed), {}), figures)
        found.append(Finished(run, seed, key, parameters, curves.get((run, seed), {}), figures, origin))
    return found


def _key(*values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:_KEY_DIGITS]


def _curves(path: Path) -> dict[tuple[str, int], dict[str, list[tuple[int, float]]]]:
    found: dict[tuple[str, int], dict[str, list[tuple[int, float]]]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                curves = found.setdefault((row["run"], int(row["seed"])), {})
                for name in set(row) - _PARTS:
                    if row[name] and math.isfinite(value := float(row[name])):
                        curves.setdefault(name, []).append((int(row["epoch"]), value))
    except (KeyError, TypeError, ValueError) as error:
        raise ResultError(
            "the curves cannot be read", where=path, found=error, fix="Run `reprise repro summary`."
        ) from error
    return {pair: dict(sorted(curves.items())) for pair, curves in found.items()}


def _trained_with(folder: Path) -> dict[str, Any]:
    """Return what config.json says of the training; nothing where the backbone is not in the folder."""
    if not (folder / "config.json").is_file():
        return {}
    config = read_config(folder)
    told = ("method", "labels", "architecture", "epochs", "images_seen", "batch_size_used", "precision", "device")
    return {name: config[name] for name in told if name in config} | {"parameters": config.get("parameters", {})}


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in sorted(values.items()):
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value if isinstance(value, str | int | float | bool) else json.dumps(value)
