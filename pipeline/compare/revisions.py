"""What was measured at a git revision, or in the folder as it is: means, per-seed figures, per-example answers.

Means come from metrics.json, which git holds; per-seed figures and answers from outputs that DVC's cache holds,
if it does.
"""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.graph import dvc
from pipeline.processes.processes import CommandFailed, capture
from reprise.artifacts.results import read_predictions
from reprise.config.errors import GraphError, ResultError

WORKSPACE = "workspace"
METRICS, TABLE, PROBES = "metrics.json", "data/summary/table.csv", "data/probe"


class Figure(NamedTuple):
    """A value with its interval over examples, where it has one."""

    value: float
    low: float | None
    high: float | None


class Answers(NamedTuple):
    """What a probe answered on the test split: keys, right or wrong, group of each image or None."""

    keys: tuple[str, ...]
    correct: np.ndarray
    groups: tuple[str | None, ...]


@dataclass(frozen=True)
class Measured:
    """The figures of one revision.

    Attributes:
        means: run -> "probe.metric" -> mean over seeds.
        seeds: "probe.metric" -> run -> seed -> Figure; empty when the cache does not hold the table.
        answers: (run, seed, probe) -> Answers.
    """

    name: str
    means: Mapping[str, Mapping[str, float]]
    seeds: Mapping[str, Mapping[str, Mapping[int, Figure]]]
    answers: Mapping[tuple[str, int, str], Answers] = field(default_factory=dict)


def measured(revision: str, root: Path = Path(), *, answers: bool = False) -> Measured:
    """Read what a revision measured.

    Args:
        revision: anything git resolves, or "workspace".
        answers: read the per-example answers as well.

    Raises:
        GraphError: git knows no such revision. ResultError: it holds no metrics.json.
    """
    if revision == WORKSPACE:
        text = _text(root / METRICS)
        table = (root / TABLE).read_bytes() if (root / TABLE).is_file() else None
        found = _answers(root / PROBES) if answers else {}
        return Measured(revision, _means(text, METRICS), per_seed(table), found)
    commit = resolve(revision, root)
    try:
        text = capture(["git", "show", f"{commit}:./{METRICS}"], cwd=root)
    except CommandFailed as error:
        raise ResultError(
            "this revision holds no metrics",
            where=f"{revision}:{METRICS}",
            found=" ".join(error.lines),
            fix="Name another.",
        ) from error
    with tempfile.TemporaryDirectory() as folder:
        table_file, probes = Path(folder) / "table.csv", Path(folder) / "probe"
        table = table_file.read_bytes() if dvc.fetch_at(commit, TABLE, table_file, root) else None
        found = _answers(probes) if answers and dvc.fetch_at(commit, PROBES, probes, root) else {}
    return Measured(revision, _means(text, f"{revision}:{METRICS}"), per_seed(table), found)


def resolve(revision: str, root: Path = Path()) -> str:
    """The commit that a revision names.

    Raises:
        GraphError: git knows no such revision.
    """
    try:
        return capture(
            ["git", "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"], cwd=root
        ).strip()
    except CommandFailed as error:
        raise GraphError(
            "git knows no such revision",
            where=revision,
            found="nothing",
            fix="`git log --oneline` lists revisions; `workspace` is the folder as it is.",
        ) from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ResultError(
            "there are no metrics yet", where=path, found=error.strerror, fix="Run `reprise repro`."
        ) from error


def _means(text: str, where: str) -> dict[str, dict[str, float]]:
    """metrics.json, {run: {probe: {metric: value}}}, as run -> "probe.metric" -> value."""
    try:
        nested: dict[str, Any] = json.loads(text)
        return {
            run: {
                f"{probe}.{metric}": float(value)
                for probe, values in probes.items()
                for metric, value in values.items()
            }
            for run, probes in nested.items()
        }
    except (ValueError, TypeError, AttributeError) as error:
        raise ResultError(
            "these metrics cannot be read", where=where, found=error, fix="Run `reprise repro summary`."
        ) from error


def per_seed(table: bytes | None) -> dict[str, dict[str, dict[int, Figure]]]:
    """data/summary/table.csv as "probe.metric" -> run -> seed -> Figure; empty for None.

    Raises:
        ResultError: it is no such table.
    """
    found: dict[str, dict[str, dict[int, Figure]]] = {}
    if table is None:
        return found
    try:
        for row in csv.DictReader(io.StringIO(table.decode("utf-8"))):
            figure = Figure(float(row["value"]), _number(row["low"]), _number(row["high"]))
            found.setdefault(f"{row['probe']}.{row['metric']}", {}).setdefault(row["run"], {})[int(row["seed"])] = (
                figure
            )
    except (KeyError, ValueError) as error:
        raise ResultError(
            "the table of figures cannot be read", where=TABLE, found=error, fix="Run `reprise repro summary`."
        ) from error
    return found


def _number(text: str) -> float | None:
    return float(text) if text else None


def _answers(probes: Path) -> dict[tuple[str, int, str], Answers]:
    """From data/probe/<run>/<seed>/<group>/predictions-<probe>.parquet."""
    found = {}
    for path in sorted(probes.glob("*/*/*/predictions-*.parquet")):
        run, seed = path.parts[-4], path.parts[-3]
        table = read_predictions(path)
        found[run, int(seed), path.stem.removeprefix("predictions-")] = Answers(
            tuple(table["key"].to_pylist()),
            np.asarray(table["correct"].to_pylist(), dtype=bool),
            tuple(table["group"].to_pylist()),
        )
    return found
