"""Read the measurements of a git revision, or of the folder as it is: means, figures per seed, answers per example.

Means come from metrics.json, which git holds. Figures per seed and answers come from outputs, as far as DVC's cache
holds them.
"""

from __future__ import annotations

import csv
import io
import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.graph.remotes.revision_outputs import fetch_at
from pipeline.processes.git import git
from reprise.artifacts.layout import COMPARISON, METRICS, PROBES, TABLE
from reprise.artifacts.results import read_predictions
from reprise.config.errors import GitError, GraphError, ResultError

WORKSPACE = "workspace"


class Figure(NamedTuple):
    """A value with its interval over examples, if it has one."""

    value: float
    low: float | None
    high: float | None


class Answers(NamedTuple):
    """The answers of a probe on the test split.

    Attributes:
        keys: key of each image.
        correct: whether the answer to each image is correct, as booleans.
        groups: group of each image (a patient, for example), or None.
        labels: true class of each image.
        predicted: the class that was answered for each image.
    """

    keys: tuple[str, ...]
    correct: np.ndarray
    groups: tuple[str | None, ...]
    labels: tuple[str, ...] = ()
    predicted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Measurements:
    """The measurements of one revision.

    Attributes:
        name: the revision.
        means: run -> "probe.metric" -> mean over seeds.
        seeds: "probe.metric" -> run -> seed -> Figure; empty if the cache does not hold the table.
        answers: (run, seed, probe) -> Answers.
        budgets: run -> the entries of its budget; empty if the cache does not hold the comparison.
        of_one_run: whether this is one run, and `name` is its name, so that it can be compared with another run.
    """

    name: str
    means: Mapping[str, Mapping[str, float]]
    seeds: Mapping[str, Mapping[str, Mapping[int, Figure]]]
    answers: Mapping[tuple[str, int, str], Answers] = field(default_factory=dict)
    budgets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    of_one_run: bool = False


def read_measurements(revision: str, root: Path = Path(), *, answers: bool = False) -> Measurements:
    """Read the measurements of a revision.

    Args:
        revision: anything that git resolves, or "workspace".
        root: the project folder.
        answers: whether to read the answers per example as well.

    Raises:
        GraphError: git does not know the revision.
        GitError: git is missing or fails.
        ResultError: the revision holds no metrics.json.
    """
    if revision == WORKSPACE:
        text = _text(root / METRICS)
        table = (root / TABLE).read_bytes() if (root / TABLE).is_file() else None
        compared = (root / COMPARISON).read_bytes() if (root / COMPARISON).is_file() else None
        by_probe = _read_answers(root / PROBES) if answers else {}
        return Measurements(revision, parse_means(text, str(METRICS)), per_seed(table), by_probe, budgets_in(compared))
    commit = resolve(revision, root)
    try:
        text = git("show", f"{commit}:./{METRICS}", cwd=root)
    except GitError as error:
        if not re.search("does not exist in|exists on disk, but not in", error.found):
            raise
        raise ResultError(
            "this revision holds no metrics",
            where=f"{revision}:{METRICS}",
            found="git has no such file at this revision",
            fix="Name a revision that was committed after a run; `git add --all && git commit` makes one here.",
        ) from error
    with tempfile.TemporaryDirectory() as folder:
        table_file, compared_file, probes = (Path(folder) / name for name in ("table.csv", "comparison.json", "probe"))
        table = table_file.read_bytes() if fetch_at(commit, str(TABLE), table_file, root) else None
        compared = compared_file.read_bytes() if fetch_at(commit, str(COMPARISON), compared_file, root) else None
        fetched = answers and fetch_at(commit, str(PROBES), probes, root)
        by_probe = _read_answers(probes) if fetched else {}
    means = parse_means(text, f"{revision}:{METRICS}")
    return Measurements(revision, means, per_seed(table), by_probe, budgets_in(compared))


def resolve(revision: str, root: Path = Path()) -> str:
    """Return the commit that a revision names.

    Raises:
        GraphError: git does not know the revision.
        GitError: git is missing or fails.
    """
    commit = git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}", cwd=root).strip()
    if not commit:
        is_empty = not git("rev-parse", "--verify", "--quiet", "HEAD", cwd=root)
        raise GraphError(
            "git knows no such revision",
            where=revision,
            found="a repository without any commit" if is_empty else "no commit of that name",
            fix="List revisions with `git log --oneline`; `workspace` means the folder as it is.",
        )
    return commit


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ResultError(
            "there are no metrics yet", where=path, found=error.strerror, fix="Run `reprise repro`."
        ) from error


def parse_means(text: str, where: str) -> dict[str, dict[str, float]]:
    """Parse metrics.json, {run: {probe: {metric: value}}}, into run -> "probe.metric" -> value.

    Args:
        text: the content of the file.
        where: the file, for messages.

    Raises:
        ResultError: the text is not such a file.
    """
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
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ResultError(
            "these metrics cannot be read", where=where, found=error, fix="Run `reprise repro summary`."
        ) from error


def per_seed(table: bytes | None) -> dict[str, dict[str, dict[int, Figure]]]:
    """Parse data/summary/table.csv into "probe.metric" -> run -> seed -> Figure; None becomes an empty mapping.

    Raises:
        ResultError: the text is not such a table.
    """
    figures: dict[str, dict[str, dict[int, Figure]]] = {}
    if table is None:
        return figures
    try:
        for row in csv.DictReader(io.StringIO(table.decode("utf-8"))):
            by_run = figures.setdefault(f"{row['probe']}.{row['metric']}", {})
            figure = Figure(float(row["value"]), _number(row["low"]), _number(row["high"]))
            by_run.setdefault(row["run"], {})[int(row["seed"])] = figure
    except (KeyError, ValueError) as error:
        raise ResultError(
            "the table of figures cannot be read", where=TABLE, found=error, fix="Run `reprise repro summary`."
        ) from error
    return figures


def budgets_in(comparison: bytes | None) -> dict[str, dict[str, Any]]:
    """Parse the budgets of data/summary/comparison.json: run -> entries; None becomes an empty mapping.

    Raises:
        ResultError: the text is not such a comparison.
    """
    if comparison is None:
        return {}
    try:
        return {str(run): dict(budget) for run, budget in json.loads(comparison)["budget"].items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ResultError(
            "the comparison of runs cannot be read", where=COMPARISON, found=error, fix="Run `reprise repro summary`."
        ) from error


def _number(text: str) -> float | None:
    return float(text) if text else None


def _read_answers(probes: Path) -> dict[tuple[str, int, str], Answers]:
    """Read data/probe/<run>/<seed>/<part>/<suite>/predictions-<probe>.parquet into (run, seed, probe) -> Answers."""
    answers = {}
    for path in sorted(probes.glob("*/*/*/*/predictions-*.parquet")):
        run, seed = path.parts[-5], path.parts[-4]
        table = read_predictions(path)
        answers[run, int(seed), path.stem.removeprefix("predictions-")] = Answers(
            tuple(table["key"].to_pylist()),
            np.asarray(table["correct"].to_pylist(), dtype=bool),
            tuple(table["group"].to_pylist()),
            tuple(table["label"].to_pylist()),
            tuple(table["predicted"].to_pylist()),
        )
    return answers
