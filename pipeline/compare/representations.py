"""Compare the representations of runs at several git revisions, in the order in which the revisions are named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.compare.revisions import WORKSPACE, resolve
from pipeline.graph.dvc_output import last_lines
from pipeline.graph.remotes.revision_outputs import fetch_at
from pipeline.graph.stage_modules import stage_command
from pipeline.processes.commands import CommandFailed, run
from reprise.artifacts.embeddings import FILE
from reprise.artifacts.layout import EMBEDDINGS
from reprise.artifacts.results import read_json
from reprise.config.errors import ResultError


def fetch_embeddings(
    revision: str, runs: Sequence[str], seed: int, folder: Path, root: Path = Path()
) -> dict[str, Path]:
    """Fetch the embeddings of runs at a revision.

    Args:
        revision: anything that git resolves, or "workspace".
        runs: names of runs; none means all runs.
        seed: seed of the runs.
        folder: where the files of a git revision are put.
        root: the project folder.

    Returns:
        The embeddings file of each run.

    Raises:
        GraphError: git does not know the revision.
        ResultError: neither DVC's cache nor its remote holds the embeddings.
    """
    if revision == WORKSPACE:
        parent = root / EMBEDDINGS
    else:
        commit, parent = resolve(revision, root), folder / revision.replace("/", "_")
        for name in runs or [""]:
            target = parent / name / str(seed) if name else parent
            target.parent.mkdir(parents=True, exist_ok=True)
            fetch_at(commit, str(EMBEDDINGS / name / str(seed)) if name else str(EMBEDDINGS), target, root)
    files = {path.parts[-3]: path for path in sorted(parent.glob(f"*/{seed}/{FILE}"))}
    missing = [name for name in runs if name not in files]
    if missing or not files:
        raise ResultError(
            "the embeddings of this revision cannot be fetched",
            where=f"{revision}: {EMBEDDINGS}",
            found=f"no {', '.join(missing) or 'run'} of seed {seed} in the workspace, DVC's cache or its remote",
            fix="Run `reprise repro` at that revision, or fetch its results with `reprise pull`.",
        )
    return {name: files[name] for name in runs} if runs else files


def compare_encoders(
    revisions: Sequence[str], runs: Sequence[str], seed: int, out: Path, scratch: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """Run the probes that compare representations on the embeddings of several revisions.

    Args:
        revisions: git revisions or "workspace", oldest first.
        runs: names of runs; none means all runs.
        seed: seed of the runs.
        out: folder for representations.json and representations.parquet.
        scratch: folder for the embeddings that are fetched.
        say: prints a line for people.

    Returns:
        The content of representations.json.

    Raises:
        CommandFailed: the comparison ended with an error, which it has explained.
    """
    encoders = []
    for revision in revisions:
        for name, path in fetch_embeddings(revision, runs, seed, scratch).items():
            encoders += ["--encoder", f"{name} at {revision}={path}"]
    command = stage_command("stages.probe.representations", [*encoders, "--out", str(out)], Path())
    lines: list[str] = []

    def keep(line: str) -> None:
        lines.append(line)
        say(line)

    if code := run(command, on_line=keep):
        raise CommandFailed(command, code, shown=last_lines(lines))
    comparison: dict[str, Any] = read_json(out / "representations.json")
    return comparison


def similarity_tables(comparison: dict[str, Any]) -> list[tuple[str, list[list[str]]]]:
    """Return (title, rows) for each metric, with a row and a column per encoder.

    Args:
        comparison: the content of representations.json.
    """
    names = [encoder["name"] for encoder in comparison["encoders"]]
    return [
        (
            f"{probe}.{metric}: {result['caption']}",
            [[name, *("-" if v is None else f"{v:.4f}" for v in row)] for name, row in zip(names, matrix, strict=True)],
        )
        for probe, result in comparison["probes"].items()
        for metric, matrix in result["metrics"].items()
    ]
