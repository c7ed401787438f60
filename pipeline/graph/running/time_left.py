"""Estimate how long what runs will still take: a loop by its rate, and stages by how long they took before."""

from __future__ import annotations

import json
import math
import time
from bisect import insort
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from pipeline.graph.definition import Graph
from pipeline.graph.running.processes import Running
from reprise.config.dvc_file import Stage
from reprise.storage.content_hashes import IrregularFile, read_regular
from reprise.storage.provenance import FOLDER

_MOST_BYTES = 1 << 20
_LONGEST = 1e8  # seconds
_AS = {"adapt": "pretrain", "embed_adapted": "embed", "probe_adapted": "probe"}  # entries that run another's module


@dataclass(frozen=True)
class Left:
    """Time that is left.

    Attributes:
        seconds: the estimate.
        known: whether it covers everything; otherwise stages are left out that never ran here, or may not run now.
    """

    seconds: float
    known: bool = True


def time_left(running: Running, others: Sequence[Running], graph: Graph | None, root: Path) -> Left | None:
    """Estimate the time that a process needs to its end; None where nothing is known.

    Args:
        running: the process.
        others: all processes of the project.
        graph: the graph, for processes that go through its stages.
        root: the project folder.
    """
    part = running.part
    if part is None:
        seconds = next((c.seconds_left for c in running.counted if c.seconds_left is not None), None)
        return None if seconds is None else Left(seconds)
    if part.unit != "stage":
        return _by_parts(running)
    if graph is None:
        return None
    folder = root / running.folder
    at_work = (part.title, *part.beside)
    now = {r.stage: r for r in others if r.stage in at_work and r.folder == running.folder}
    waiting = [graph.by_name[name] for name in part.waiting if name in graph.by_name]
    changed = set(graph.downstream([*part.ran, *at_work]))
    # Of a stage that nothing before it changed, only DVC will know whether it runs.
    sure = [stage for stage in waiting if stage.name in changed or _recorded(stage, folder) is None]
    estimates = {name: _of_current(now.get(name), graph, folder) for name in at_work}
    estimates |= {stage.name: expected_seconds_of(stage, graph, folder) for stage in sure}
    found = {name: seconds for name, seconds in estimates.items() if seconds is not None}
    known = len(found) == len(estimates) and len(sure) == len(waiting) and part.counted
    seconds = _together(found, at_work, graph, part.at_once)
    return Left(seconds, known) if known or seconds >= 1 else None


def _together(seconds: Mapping[str, float], at_work: Sequence[str], graph: Graph, at_once: int) -> float:
    """Return how long stages take together, of which some run and the others begin as soon as they can.

    Args:
        seconds: of each stage, by name, in the order in which they begin.
        at_work: the stages that run.
        graph: the graph.
        at_once: how many may run at once.
    """
    ends = sorted((seconds[name], name) for name in at_work if name in seconds)
    waiting = [name for name in seconds if name not in at_work]
    now = 0.0
    while ends or waiting:
        for name in list(waiting):
            before = {*waiting, *(other for _, other in ends)}
            free = len(ends) < at_once
            if free and not (name in graph.by_name and graph.upstream(name) & before):
                waiting.remove(name)
                insort(ends, (now + seconds[name], name))
        if not ends:  # a graph that changed meanwhile
            return now + sum(seconds[name] for name in waiting)
        now, _ = ends.pop(0)
    return now


def _by_parts(running: Running) -> Left | None:
    """Estimate by the mean time of the parts that are done."""
    part = running.part
    if part is None or running.since is None or part.number <= 1:
        return None
    elapsed = max(0.0, time.time() - running.since)
    return Left(elapsed / (part.number - 1) * (part.of - part.number + 1))


def _of_current(now: Running | None, graph: Graph, folder: Path) -> float | None:
    """Estimate the rest of the stage that runs; between two stages there is none."""
    if now is None:
        return 0.0
    left = next((counted.seconds_left for counted in now.counted if counted.seconds_left is not None), None)
    if left is None and now.stage in graph.by_name and now.since is not None:
        expected = expected_seconds_of(graph.by_name[now.stage], graph, folder)
        return None if expected is None else max(0.0, expected - (time.time() - now.since))
    return left


def expected_seconds_of(stage: Stage, graph: Graph, folder: Path) -> float | None:
    """Return how long a stage took the last time or, if it never ran, others of its entry on average."""
    own = _recorded(stage, folder)
    if own is not None:
        return own
    alike = [s for other in graph.stages if other.entry == stage.entry and (s := _recorded(other, folder)) is not None]
    return fmean(alike) if alike else None


def _recorded(stage: Stage, folder: Path) -> float | None:
    name = Path(_AS.get(stage.entry, stage.entry), *stage.values)
    if stage.entry == "probe_images":
        name = Path("probe", *stage.values[:2], "images", *stage.values[2:])
    for path in (name.with_name(f"{name.name}.json"), name / "features.json"):
        with suppress(OSError, ValueError, TypeError, KeyError, RecursionError, IrregularFile):
            seconds = json.loads(read_regular(folder / FOLDER / path, _MOST_BYTES))["seconds"]
            if isinstance(seconds, int | float) and math.isfinite(seconds) and 0 <= seconds <= _LONGEST:
                return float(seconds)
    return None
