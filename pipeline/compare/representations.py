"""Runs at several git revisions against each other, as versions in the order in which they are named."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.compare.revisions import WORKSPACE, resolve
from pipeline.graph import dvc
from pipeline.processes.processes import CommandFailed, run
from reprise.artifacts.embeddings import FILE
from reprise.artifacts.results import read_json
from reprise.config.errors import ResultError

EMBED = Path("data/embed")


def fetched(revision: str, runs: Sequence[str], seed: int, folder: Path, root: Path = Path()) -> dict[str, Path]:
    """Embeddings of these runs at a revision: run -> file. All runs when none is named.

    Raises:
        GraphError: git knows no such revision. ResultError: neither cache nor remote holds the embeddings.
    """
    if revision == WORKSPACE:
        found = root / EMBED
    else:
        commit, found = resolve(revision, root), folder / revision.replace("/", "_")
        for run_name in runs or [""]:
            target = found / run_name / str(seed) if run_name else found
            target.parent.mkdir(parents=True, exist_ok=True)
            dvc.fetch_at(commit, str(EMBED / run_name / str(seed)) if run_name else str(EMBED), target, root)
    files = {path.parts[-3]: path for path in sorted(found.glob(f"*/{seed}/{FILE}"))}
    missing = [name for name in runs if name not in files]
    if missing or not files:
        raise ResultError(
            "the embeddings of this revision cannot be had",
            where=f"{revision}: {EMBED}",
            found=f"no {', '.join(missing) or 'run'} of seed {seed} in the workspace, DVC's cache or its remote",
            fix="Run `reprise repro` at that revision, or `reprise pull` what it left.",
        )
    return {name: files[name] for name in runs} if runs else files


def compare_versions(
    revisions: Sequence[str], runs: Sequence[str], seed: int, out: Path, scratch: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """Run the probes between runs on the embeddings of several revisions; returns what between.json holds.

    Raises:
        CommandFailed: the comparison ended with an error, which it has explained.
    """
    sides = []
    for revision in revisions:
        for name, path in fetched(revision, runs, seed, scratch).items():
            sides += ["--side", f"{name} at {revision}={path}"]
    command = [sys.executable, "-m", "stages.probe.between", *sides, "--out", str(out)]
    if code := run(command, on_line=say):
        raise CommandFailed(command, code)
    told: dict[str, Any] = read_json(out / "between.json")
    return told


def tables(told: dict[str, Any]) -> list[tuple[str, list[list[str]]]]:
    """(title, rows) a metric: a row a side, a column a side."""
    names = [side["name"] for side in told["sides"]]
    return [
        (
            f"{probe}.{metric}: {found['about']}",
            [[name, *("-" if v is None else f"{v:.4f}" for v in row)] for name, row in zip(names, matrix, strict=True)],
        )
        for probe, found in told["probes"].items()
        for metric, matrix in found["metrics"].items()
    ]
