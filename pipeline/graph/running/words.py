"""Put into words what runs in a project: a line a process, below the process that started it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline.graph.definition import Graph, load_graph
from pipeline.graph.running.processes import Counted, Part, Running, what_runs
from pipeline.graph.running.time_left import Left, time_left
from reprise.config.errors import RepriseError

NOTHING = "Nothing runs in this project."
_SHOWN_FIGURES = 8


class Report:
    """What runs in a project at one moment.

    Args:
        running: the processes.
        graph: the graph, where it can be read.
        root: the project folder.
    """

    def __init__(self, running: Sequence[Running], graph: Graph | None, root: Path) -> None:
        self._graph = graph
        self.running = tuple(self._placed(r, running) for r in running)
        self._left = {id(r): time_left(r, self.running, graph, root) for r in self.running}

    def lines(self) -> list[str]:
        """Return a line a process for a terminal, or one that says that nothing runs."""
        if not self.running:
            return [NOTHING]
        here = {r.process for r in self.running if not r.host}
        return [line for r in self.running if r.parent not in here for line in self._tree(r, "")]

    def summary(self) -> str | None:
        """Return one line that says that something runs, or None if nothing does."""
        if not self.running:
            return None
        first = self.running[0]
        counting = next((r for r in self.running if r.part is not None), first)
        stage = next((r for r in self.running if r.kind == "stage" and r is not first), None)
        details = [_since(first.since), self._part(counting)]
        if stage is not None:
            details += [self._title(stage)] if counting.part is None else []
            details += [_counted(counted, self._title(stage)) for counted in stage.counted[:1]]
        left = self._left[id(counting)] or (self._left[id(stage)] if stage and counting.part is None else None)
        details.append(_left(left) if left else "")
        return f"a run is in progress: {self._title(first)} ({_process(first)}): {'; '.join(filter(None, details))}"

    def json(self) -> dict[str, Any]:
        """Return the same for programs."""
        return {"running": [self._entry(r) for r in self.running]}

    def _tree(self, running: Running, indent: str) -> list[str]:
        children = [r for r in self.running if r.parent == running.process and not r.host and not running.host]
        below = [line for child in children for line in self._tree(child, indent + "  ")]
        return [f"{indent}{self._line(running)}", *below]

    def _line(self, running: Running) -> str:
        details = [_since(running.since)]
        if running.part is not None:
            details.append(self._part(running))
        details += [_counted(counted, self._title(running)) for counted in running.counted]
        left = self._left[id(running)]
        details.append(_left(left) if left else "")
        return f"{self._title(running)} ({_process(running)}): {'; '.join(filter(None, details))}"

    def _placed(self, running: Running, others: Sequence[Running]) -> Running:
        """Say of a DVC that a person started, and that counts nothing, where its stage stands in the graph."""
        stage = next((r.stage for r in others if r.parent == running.process and r.kind == "stage"), "")
        names = [each.name for each in self._graph.stages] if self._graph else []
        counts = running.part is not None or any(r.process == running.parent and r.part for r in others)
        if running.kind != "graph" or counts or running.host or stage not in names:
            return running
        number = names.index(stage) + 1
        # Which stages come later is known of a run of the whole graph only.
        waiting = tuple(names[number:]) if running.title.split()[1:] in (["repro"], ["exp", "run"]) else ()
        part = Part(number, len(names), stage, "stage", running.since or 0.0, waiting, counted=False)
        return replace(running, part=part)

    def _part(self, running: Running) -> str:
        part = running.part
        if part is None:
            return ""
        of = f"{part.of:,}" if part.counted else f"the {part.of:,} of the graph"
        if part.beside:
            names = ", ".join(map(self._name, (*part.beside, part.title)))
            return f"{part.number:,} of {of} {part.unit}s have begun, {names} are under way"
        return f"{part.unit} {part.number:,} of {of}, {self._name(part.title)}"

    def _title(self, running: Running) -> str:
        return self._name(running.stage) if running.stage else running.title

    def _name(self, stage: str) -> str:
        return self._graph.title(stage) if self._graph else stage

    def _entry(self, running: Running) -> dict[str, Any]:
        part, left = running.part, self._left[id(running)]
        return {
            "process": running.process,
            "host": running.host or None,
            "started_by": running.parent,
            "kind": running.kind,
            "title": self._title(running),
            "stage": running.stage or None,
            "folder": running.folder,
            "stopped": running.stopped,
            "since": _time(running.since, "seconds"),
            "seconds": None if running.since is None else round(max(0.0, time.time() - running.since), 1),
            "part": part
            and {"unit": part.unit, "number": part.number, "of": part.of, "title": self._name(part.title)}
            | {"beside": [*map(self._name, part.beside)]},
            "work": [_work(counted) for counted in running.counted],
            "seconds_left": None if left is None else round(left.seconds, 1),
            "seconds_left_is_a_minimum": None if left is None else not left.known,
        }


def report_running(root: Path = Path()) -> Report:
    """Look at what runs in a project; no lock is taken, and nothing is written.

    Args:
        root: the project folder.
    """
    running = what_runs(root)
    graph = None
    if running:
        with suppress(RepriseError, OSError):  # a params.yaml in the middle of an edit: names and estimates are missing
            graph = load_graph(root)
    return Report(running, graph, root)


def duration(seconds: float) -> str:
    """Return a duration in words: "45 s", "12 min", "3 h 10 min", "2 d 3 h"."""
    whole = max(0, round(seconds))
    if whole < 90:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24:,} d {hours % 24} h"


def _process(running: Running) -> str:
    place = [f"process {running.process}"]
    place += [f"on {running.host}"] if running.host else []
    place += [f"in {running.folder}"] if running.folder != "." else []
    place += ["stopped"] if running.stopped else []
    return ", ".join(place)


def _since(since: float | None) -> str:
    shown = _time(since, "seconds")
    if since is None or shown is None:
        return ""
    today = datetime.now().astimezone().date().isoformat()
    date, _, clock = shown.partition("T")
    day = "" if date == today else f"{date} "
    return f"since {day}{clock[:8]}, for {duration(time.time() - since)}"


def _time(since: float | None, precision: str) -> str | None:
    if since is not None:
        with suppress(ValueError, OverflowError, OSError):
            return datetime.fromtimestamp(since).astimezone().isoformat(timespec=precision)
    return None


def _counted(counted: Counted, title: str) -> str:
    label = f"{counted.label} " if counted.label != title else ""
    total = f" of {counted.total:,}" if counted.total is not None else ""
    share = f" ({100 * counted.done / counted.total:.0f} %)" if counted.total else ""
    rate = f"{counted.rate:,.0f}" if counted.rate >= 10 else f"{counted.rate:.2g}"
    figures = [_figure(name, value, counted.of) for name, value in list(counted.figures.items())[:_SHOWN_FIGURES]]
    return ", ".join([f"{label}{counted.done:,}{total} {counted.unit}{share}", *figures, f"{rate} {counted.unit}/s"])


def _figure(name: str, value: float, of: Mapping[str, float]) -> str:
    shown = f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
    return f"{name} {shown} of {of[name]:,}" if name in of else f"{name} {shown}"


def _work(counted: Counted) -> dict[str, Any]:
    left = counted.seconds_left
    return {
        "label": counted.label,
        "done": counted.done,
        "total": counted.total,
        "unit": counted.unit,
        "rate": counted.rate,
        "figures": dict(counted.figures),
        "of": dict(counted.of),
        "seconds_left": None if left is None else round(left, 1),
    }


def _left(left: Left) -> str:
    return f"{'about' if left.known else 'at least'} {duration(left.seconds)} left"
