"""Write the pages that a flow attaches to its run: metrics, differences from the previous run, and lineage.

This module does not import Prefect. Text from outside passes through `pipeline.processes.markdown`, because Prefect's
user interface renders Markdown and HTML.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline.compare.history.nights import store_night
from pipeline.compare.history.outcomes import store_refused
from pipeline.compare.revisions import WORKSPACE, Figure, Measurements, read_measurements
from pipeline.compare.sides.inputs import read_inputs
from pipeline.compare.sides.names import FOLDER, Side
from pipeline.graph.workspace import STATE
from pipeline.processes.git import git
from pipeline.processes.markdown import escape, table
from reprise.config.errors import GitError, RepriseError
from reprise.storage.atomic import write_json

PREVIOUS = STATE / "flows" / "previous.json"
_TOO_FEW_SEEDS = "These seeds allow no claim; `reprise compare` can compare the answers per image."


@dataclass(frozen=True)
class StageLine:
    """One stage in the lineage.

    Attributes:
        title: the stage's name for people.
        outcome: "ran", "cached", "failed", ...
        seconds: duration.
        bytes_out: size of its outputs.
        why: why it ran.
    """

    title: str
    outcome: str
    seconds: float
    bytes_out: int
    why: str


def read_figures(root: Path) -> Measurements | None:
    """Return the measurements of the folder, or None if it has no readable metrics."""
    try:
        return read_measurements(WORKSPACE, root)
    except RepriseError:
        return None


def metrics_markdown(now: Measurements) -> str:
    """Return a table with a row per metric and a column per run."""
    names = sorted({name for values in now.means.values() for name in values})
    rows = [[name, *(_format(values.get(name)) for values in now.means.values())] for name in names]
    return f"## Metrics\n\nMeans over seeds.\n\n{table(['metric', *now.means], rows)}"


def difference_markdown(before: Measurements | None, now: Measurements, root: Path) -> str:
    """Return a table of the metrics that changed since the last completed run.

    Args:
        before: measurements of the last completed run, if there was one.
        now: measurements of this run.
        root: the project folder; verdicts are given for the metric that `summary.family` names in its params.yaml.
    """
    head = "## Difference from the previous run\n\n"
    if before is None:
        return f"{head}There is no previous run of this flow in this folder."
    if before.means == now.means:
        return f"{head}No metric changed."
    family, sentences = _tested(before, now, root)
    rows: list[list[str]] = []
    for run in dict.fromkeys([*before.means, *now.means]):
        old, new = before.means.get(run, {}), now.means.get(run, {})
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name):
                change = f"{new[name] - old[name]:+.4f}" if name in old and name in new else ""
                verdict = sentences.get(run, "") if name == family else ""
                row = [run, name, _format(old.get(name)), _format(new.get(name)), change, verdict]
                rows.insert(0 if verdict else len(rows), row)
    columns = ["run", "metric", "previous", "now", "difference", "verdict"]
    return f"{head}{len(rows)} metrics changed; verdicts are given for {escape(family)}.\n\n{table(columns, rows)}"


def difference_lines(before: Measurements | None, now: Measurements, root: Path) -> list[str]:
    """Return lines on the metrics that changed since the last completed run, for the message about a run."""
    if before is None:
        return []
    if before.means == now.means:
        return ["No metric changed."]
    family, sentences = _tested(before, now, root)
    old, new = (
        {(run, metric): value for run, values in each.means.items() for metric, value in values.items()}
        for each in (before, now)
    )
    changed = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
    lines = []
    for run in dict.fromkeys([*before.means, *now.means]):
        key = (run, family)
        if key in changed:
            verdict = f": {sentences[run]}" if run in sentences else ""
            lines.append(f"{run}: {family} {_format(old.get(key))} -> {_format(new.get(key))}{verdict}")
    return [f"{len(changed)} metrics changed; verdicts are given for {family}.", *lines]


def _tested(before: Measurements, now: Measurements, root: Path) -> tuple[str, dict[str, str]]:
    """Return the metric that is tested, and for each run that both have the verdict on its difference."""
    from pipeline.compare.runs import read_family, verdicts  # imports scipy, which takes half a second

    family = read_family(root)
    return family, {
        run: sentence if pair.p is not None else _TOO_FEW_SEEDS
        for run, (pair, sentence) in verdicts(before, now, family).items()
    }


def lineage_markdown(root: Path, stages: Sequence[StageLine]) -> str:
    """Return the revision and the hashes that this run is based on, and the outcome of each stage."""
    facts = [
        ("git revision", _revision(root)),
        ("dvc.lock", _sha256(root / "dvc.lock")),
        ("params.yaml", _sha256(root / "params.yaml")),
        ("source.lock.json", _sha256(root / "source.lock.json")),
    ]
    rows = [[s.title, s.outcome, f"{s.seconds:.1f}", megabytes(s.bytes_out), s.why] for s in stages]
    columns = ["stage", "outcome", "seconds", "bytes out", "why"]
    return f"## Lineage\n\n{table(['what', 'value'], facts)}\n\n## Stages\n\n{table(columns, rows)}"


def megabytes(size: int) -> str:
    """Format a number of bytes: 12345678 becomes "12.3 MB"."""
    value, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"


def store_figures(now: Measurements, root: Path) -> None:
    """Store the measurements of a completed run, so that the next run can be compared with it."""
    seeds = {m: {r: {str(s): list(f) for s, f in v.items()} for r, v in w.items()} for m, w in now.seeds.items()}
    write_json(root / PREVIOUS, {"means": {run: dict(values) for run, values in now.means.items()}, "seeds": seeds})


def store_in_history(ended: datetime, root: Path) -> None:
    """Store the figures of a completed run among the nights that `reprise history` shows; without figures, nothing.

    Args:
        ended: when the run ended, with a zone.
        root: the project folder.
    """
    now = read_figures(root)
    if now is None:
        return
    store_night(ended, _commit(root), read_inputs(Side(WORKSPACE, FOLDER), root), now, root)


def store_refused_in_history(ended: datetime, state: str, message: str, root: Path) -> None:
    """Store what stopped a run, for `reprise history`.

    Args:
        ended: when the run ended, with a zone.
        state: name of its final state.
        message: of that state, without secrets.
        root: the project folder.
    """
    store_refused(ended, _commit(root), state, message, root)


def _commit(root: Path) -> str:
    try:
        return git("rev-parse", "--verify", "--quiet", "HEAD", cwd=root).strip()
    except GitError:
        return ""  # a folder without git has nights all the same


def load_previous_figures(root: Path) -> Measurements | None:
    """Return the measurements of the last completed run, or None if they cannot be read."""
    try:
        stored: dict[str, Any] = json.loads((root / PREVIOUS).read_text(encoding="utf-8"))
        seeds: Mapping[str, Mapping[str, Mapping[int, Figure]]] = {
            metric: {run: {int(seed): Figure(*f) for seed, f in by_seed.items()} for run, by_seed in by_run.items()}
            for metric, by_run in stored["seeds"].items()
        }
        return Measurements("previous run", stored["means"], seeds)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _format(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _revision(root: Path) -> str:
    try:
        commit = git("rev-parse", "--verify", "--quiet", "HEAD", cwd=root).strip()
        changed = git("status", "--porcelain", "--untracked-files=no", cwd=root).splitlines()
    except GitError as error:
        return f"unknown: {error.what}"
    if not commit:
        return "none: there is no commit yet"
    return f"{commit} and {len(changed)} changed files" if changed else commit


def _sha256(path: Path) -> str:
    try:
        return f"sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}"
    except OSError:
        return "absent"
