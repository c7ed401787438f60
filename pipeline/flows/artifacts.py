"""The texts that a flow leaves beside its run: metrics, difference to the run before, lineage. No Prefect in here.

Whatever comes from outside passes `pipeline.processes.markdown`: Prefect's UI renders Markdown and HTML.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.compare.revisions import WORKSPACE, Figure, Measured, measured
from pipeline.graph.workspace import STATE
from pipeline.processes.markdown import escaped, table
from pipeline.processes.processes import CommandFailed, capture
from reprise.config.errors import RepriseError
from reprise.storage.atomic import write_json

PREVIOUS = STATE / "flows" / "previous.json"
_ONE_SEED = "No claim from these seeds; `reprise compare` can compare answer by answer."


@dataclass(frozen=True)
class StageLine:
    """One stage in the lineage."""

    title: str
    outcome: str
    seconds: float
    bytes_out: int
    why: str


def figures(root: Path) -> Measured | None:
    """What the folder measured, or None where there are no metrics that can be read."""
    try:
        return measured(WORKSPACE, root)
    except RepriseError:
        return None


def metrics_markdown(now: Measured) -> str:
    """Runs by metric, means over seeds."""
    names = sorted({name for values in now.means.values() for name in values})
    rows = [[name, *(_shown(values.get(name)) for values in now.means.values())] for name in names]
    return f"## Metrics\n\nMeans over seeds.\n\n{table(['metric', *now.means], rows)}"


def difference_markdown(before: Measured | None, now: Measured, root: Path) -> str:
    """What changed since the last completed run of the flow; verdicts for the family that params.yaml states."""
    head = "## Difference to the previous run\n\n"
    if before is None:
        return f"{head}There is no previous run of this flow in this folder."
    if before.means == now.means:
        return f"{head}No metric changed."
    from pipeline.compare.runs import stated_family, verdicts  # scipy takes half a second to import

    family = stated_family(root)
    found = verdicts(before, now, family).items()
    spoken = {run: sentence if pair.p is not None else _ONE_SEED for run, (pair, sentence) in found}
    rows: list[list[str]] = []
    for run in dict.fromkeys([*before.means, *now.means]):
        old, new = before.means.get(run, {}), now.means.get(run, {})
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name):
                change = f"{new[name] - old[name]:+.4f}" if name in old and name in new else ""
                verdict = spoken.get(run, "") if name == family else ""
                row = [run, name, _shown(old.get(name)), _shown(new.get(name)), change, verdict]
                rows.insert(0 if verdict else len(rows), row)
    columns = ["run", "metric", "previous", "now", "difference", "verdict"]
    return f"{head}{len(rows)} figures changed; verdicts are given for {escaped(family)}.\n\n{table(columns, rows)}"


def lineage_markdown(root: Path, stages: Sequence[StageLine]) -> str:
    """Which code, parameters and artifacts this run stands on, and what became of each stage."""
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
    """12345678 -> "12.3 MB"."""
    value, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"


def remember(now: Measured, root: Path) -> None:
    """Keep a completed run's figures, for the next one to be compared with."""
    seeds = {m: {r: {str(s): list(f) for s, f in v.items()} for r, v in w.items()} for m, w in now.seeds.items()}
    write_json(root / PREVIOUS, {"means": {run: dict(values) for run, values in now.means.items()}, "seeds": seeds})


def remembered(root: Path) -> Measured | None:
    """The figures of the last completed run, if they can be read."""
    try:
        kept: dict[str, Any] = json.loads((root / PREVIOUS).read_text(encoding="utf-8"))
        seeds: Mapping[str, Mapping[str, Mapping[int, Figure]]] = {
            metric: {run: {int(seed): Figure(*f) for seed, f in by_seed.items()} for run, by_seed in by_run.items()}
            for metric, by_run in kept["seeds"].items()
        }
        return Measured("previous run", kept["means"], seeds)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _revision(root: Path) -> str:
    try:
        commit = capture(["git", "rev-parse", "HEAD"], cwd=root).strip()
        changed = capture(["git", "status", "--porcelain", "--untracked-files=no"], cwd=root).splitlines()
    except CommandFailed:
        return "not under git"
    return f"{commit} and {len(changed)} changed files" if changed else commit


def _sha256(path: Path) -> str:
    try:
        return f"sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}"
    except OSError:
        return "absent"
