"""Training curves: loss, learning rate, effective rank and spread of the features over the epochs of each run.

Checked by: tests/stages/report/sections/test_sections.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from stages.report.drawing.charts import Line, line_chart
from stages.report.readers.runs import Run
from stages.report.section_registry import Absent
from stages.report.text import metric_title

TITLE = "Training"
ORDER = 40
READS = ("runs",)

MOST_RUNS = 24
MOST_POINTS = 400  # of a line; longer histories are thinned
_CURVES = {  # column of history.csv -> title; these come first
    "loss": "Loss",
    "learning_rate": "Learning rate",
    "rankme": "RankMe (effective rank)",
    "feature_std": "Feature standard deviation",
}
_NOT_CURVES = {"epoch", "step"}
_MOST_CURVES = 6


@dataclass(frozen=True)
class Curves:
    """Small charts of one run, a line for each seed."""

    run: str
    seeds: tuple[int, ...]
    charts: tuple[Markup, ...]


def show(runs: tuple[Run, ...]) -> dict[str, Any] | Absent:
    """Draw the history of every run that has one."""
    curves = curves_of(runs)
    if not curves:
        return Absent("No run has a training history: nothing was trained by gradient steps, or no history was kept.")
    return {
        "curves": curves,
        "without_history": [run.name for run in runs if not any(seed.history for seed in run.seeds)],
    }


def curves_of(runs: Sequence[Run]) -> tuple[Curves, ...]:
    """Draw a chart for each column of the histories, a line for each seed."""
    drawn = []
    for run in [run for run in runs if any(seed.history for seed in run.seeds)][:MOST_RUNS]:
        columns = {
            name for seed in run.seeds for name, values in seed.history.items() if any(v is not None for v in values)
        }
        known = [name for name in _CURVES if name in columns]
        more = sorted(columns - _NOT_CURVES - set(known))
        charts = tuple(
            line_chart(_lines(run, name), _CURVES.get(name, metric_title(name)))
            for name in [*known, *more][:_MOST_CURVES]
        )
        if charts:
            drawn.append(Curves(run.name, tuple(seed.seed for seed in run.seeds if seed.history), charts))
    return tuple(drawn)


def _lines(run: Run, column: str) -> list[Line]:
    lines = []
    for seed in run.seeds:
        values = seed.history.get(column, ())
        epochs = seed.history.get("epoch", ())
        x = (
            tuple(e if e is not None else float(i) for i, e in enumerate(epochs))
            if epochs
            else tuple(map(float, range(len(values))))
        )
        step = -(-len(values) // MOST_POINTS) or 1
        kept = sorted({*range(0, len(values), step), len(values) - 1}) if values else []
        if kept:
            lines.append(Line(f"seed {seed.seed}", tuple(x[i] for i in kept), tuple(values[i] for i in kept)))
    return lines
