"""Which figures of the folder were computed from its present parameters, data and code.

metrics.json is committed. In a clone where nothing has run, or after an edit, it holds the figures of other parameters,
and nothing in it shows that. So figures of the folder are compared only as far as dvc.lock says that they are current.
An output that is merely missing (a fresh clone, a cache that was emptied) makes no figure old.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.graph import dvc
from pipeline.graph.definition import Graph, load_graph
from pipeline.graph.lock_file import read_lock
from pipeline.graph.stage_modules import check, scan
from reprise.artifacts.layout import CODE, PRESENT_CODE
from reprise.config.dvc_file import Stage, overlaps
from reprise.config.errors import ResultError, listed
from reprise.storage.content_hashes import md5_of_small_file
from reprise.storage.listing import LOCK_FILE as SOURCE_LOCK

_SHOWN = 8
_OF_A_RUN = ("pretrain", "adapt", "embed", "embed_adapted", "probe", "probe_adapted", "probe_images")


def old_figures(root: Path = Path()) -> dict[str, str]:
    """Find the runs whose figures in metrics.json are not those of the present parameters, data and code.

    Returns:
        For each such run why, as a clause; "" stands for all runs.

    Raises:
        CommandFailed: a parameter is wrong, or the source cannot be read; the process has explained it.
        GraphError: DVC cannot report what changed.
    """
    graph = load_graph(root)
    if any(stage.fingerprints for stage in graph.stages):
        check(root)
    if any(str(SOURCE_LOCK) in stage.deps for stage in graph.stages):
        scan(root)
    with dvc.current_lock_names(graph, root):
        changed = _changed(graph, root)
    old: dict[str, str] = {}
    for stage in graph.stages:
        needed = [name for name in graph.needed_for([stage.name]) if name in changed]
        if needed and stage.entry == "summary":
            shared = [name for name in needed if not _run_of(graph.by_name[name])]
            old |= {"": _clause(graph, changed, shared)} if shared else {}
        run = _run_of(stage)
        if needed and run:
            old.setdefault(run, _clause(graph, changed, needed))
    return old


def refuse_old_figures(runs: Sequence[str], root: Path = Path()) -> dict[str, str]:
    """Stop where figures of these runs in the folder are not current.

    Args:
        runs: names of runs.
        root: the project folder.

    Returns:
        For each other run whose figures are not current why, as a clause.

    Raises:
        ResultError: naming the runs and why.
    """
    old = old_figures(root)
    lines = [f"all runs: {old['']}"] if "" in old else [f"{run}: {old[run]}" for run in runs if run in old]
    if lines:
        raise ResultError(
            "figures are older than the parameters, data or code of the folder",
            where=root / "metrics.json",
            found=listed(lines[:_SHOWN]),
            fix="Run `reprise repro`, which computes them again.",
        )
    return old


def _run_of(stage: Stage) -> str:
    """Return the run that a stage belongs to; empty for stages that all runs share."""
    return stage.values[0] if stage.entry in _OF_A_RUN else ""


def _changed(graph: Graph, root: Path) -> dict[str, list[str]]:
    """Name what changed of each stage since dvc.lock was written, missing outputs aside."""
    reported, lock = dvc.status(root), read_lock(root)
    outs = [out for stage in graph.stages for out in stage.outs]
    changed: dict[str, list[str]] = {}
    for stage in graph.stages:
        if stage.fingerprints:
            continue
        entry = lock.get(stage.name)
        if entry is None:
            changed[stage.name] = ["it has not run"]
            continue
        lines = [line for item in reported.get(stage.name, []) for line in _lines(item, outs)]
        recorded = {dep["path"]: dep["md5"] for dep in entry.get("deps", [])}
        lines += [
            f"the code of {stage.title} changed"
            for dep in stage.deps
            if Path(dep).is_relative_to(CODE)
            and md5_of_small_file(root / PRESENT_CODE / Path(dep).relative_to(CODE)) != recorded.get(dep)
        ]
        if lines:
            changed[stage.name] = list(dict.fromkeys(lines))
    return changed


def _lines(item: Any, outs: Sequence[str]) -> list[str]:
    """Read one entry of `dvc status --json`."""
    if not isinstance(item, dict):
        return ["its command changed"]
    lines = []
    for kind, files in item.items():
        for path, change in files.items():
            if isinstance(change, dict):  # params.yaml: name of the parameter -> change
                lines += [f"{name} is {how}" for name, how in change.items()]
            elif Path(path).is_relative_to(CODE):
                continue  # compared by the fingerprints themselves
            elif change not in ("deleted", "not in cache") or not any(overlaps(out, path) for out in outs):
                lines.append(f"{path} is {change}{'' if kind == 'changed deps' else ', which the stage wrote'}")
    return lines


def _clause(graph: Graph, changed: dict[str, list[str]], names: Sequence[str]) -> str:
    name = names[0]
    more = f", and {len(names) - 1} more stages" if len(names) > 1 else ""
    return f"{graph.title(name)}: {'; '.join(changed[name][:3])}{more}"
