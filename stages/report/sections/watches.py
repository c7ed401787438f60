"""What watches saw: the figures of each watch over the epochs of each run, from before the first step on.

Checked by: tests/stages/report/sections/test_watched.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from stages.report.drawing.charts import Line, line_chart
from stages.report.readers.runs import Run
from stages.report.section_registry import Absent

TITLE = "Watched"
ORDER = 41
READS = ("runs",)

MOST_RUNS = 24
MOST_CHARTS = 24  # of a run
MOST_POINTS = 400  # of a line; longer ones are thinned, and keep their ends


@dataclass(frozen=True)
class Watched:
    """Small charts of one run, a line for each seed; `left_out` counts figures without a chart."""

    run: str
    charts: tuple[Markup, ...]
    left_out: int


def show(runs: tuple[Run, ...]) -> dict[str, Any] | Absent:
    """Draw the figures of every run that was watched."""
    watched = watched_of(runs)
    if not watched:
        return Absent("No run was watched: `train.watches` names no watch.")
    return {"watched": watched[:MOST_RUNS], "more": [item.run for item in watched[MOST_RUNS:]]}


def watched_of(runs: Sequence[Run]) -> tuple[Watched, ...]:
    """Draw a chart for each figure of each watch, in alphabetical order."""
    drawn = []
    for run in runs:
        figures = sorted({name for seed in run.seeds for name in seed.watched})
        charts = tuple(line_chart(_lines(run, name), name) for name in figures[:MOST_CHARTS])
        if charts:
            drawn.append(Watched(run.name, charts, max(0, len(figures) - MOST_CHARTS)))
    return tuple(drawn)


def _lines(run: Run, figure: str) -> list[Line]:
    found = []
    for seed in run.seeds:
        points = seed.watched.get(figure, ())
        step = -(-len(points) // MOST_POINTS) or 1
        points = (*points[:-1:step], *points[-1:])
        if points:
            found.append(Line(f"seed {seed.seed}", tuple(x for x, _ in points), tuple(y for _, y in points)))
    return found
