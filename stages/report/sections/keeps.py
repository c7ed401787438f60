"""What each run keeps: how much of every fact of the images is read linearly off its features, runs beside facts.

Checked by: tests/stages/report/sections/test_keeps.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stages.report.drawing.charts import Estimate
from stages.report.drawing.heat import decimals, heat_table
from stages.report.estimates import estimate, intervals_of
from stages.report.readers.comparison import Comparison
from stages.report.readers.runs import Run
from stages.report.section_registry import Absent

TITLE = "What each run keeps"
ORDER = 78
READS = ("runs", "comparison")

METRIC = "keeps.kept_"  # before the name of the fact
MOST_RUNS, MOST_FACTS = 24, 20  # drawn; data/probe has all


@dataclass(frozen=True)
class Row:
    """A run in the table: for each fact the figure with its interval, whether no run is above it, or a dash."""

    run: str
    cells: tuple[tuple[str, str, bool], ...]


def show(runs: tuple[Run, ...], comparison: Comparison | None) -> dict[str, Any] | Absent:
    """Draw the figures of all runs and facts, and write them with their intervals."""
    facts = facts_of(runs)
    if not facts:
        return Absent("Nothing was read off the features but the class: see the probe `keeps` of the suite `factors`.")
    intervals = intervals_of(comparison)
    found = {run.name: [estimate(run, METRIC + fact, intervals) for fact in facts] for run in runs}
    measured = {name: figures for name, figures in found.items() if any(figures)}
    shown, drawn = dict(list(measured.items())[:MOST_RUNS]), facts[:MOST_FACTS]
    values = [[figure.value if figure else None for figure in row[: len(drawn)]] for row in shown.values()]
    first = next(run for run in runs if run.name in measured).first
    return {
        "chart": heat_table(list(shown), drawn, values, "How much of each fact each run keeps"),
        "facts": drawn,
        "rows": rows_of({name: row[: len(drawn)] for name, row in shown.items()}),
        "left_out_runs": len(measured) - len(shown),
        "left_out_facts": len(facts) - len(drawn),
        "left_out": str(first.protocol.get("keeps", {}).get("left out", "no fact")),
        "seeds": max(len(run.seeds) for run in runs if run.name in measured),
    }


def facts_of(runs: Sequence[Run]) -> list[str]:
    """List the facts that any run was probed for, in the order of metrics.json, the class first."""
    names = [m.removeprefix(METRIC) for r in runs for s in r.seeds for m in s.figures if m.startswith(METRIC)]
    return sorted(dict.fromkeys(names), key=lambda name: name != "class")


def rows_of(figures: dict[str, list[Estimate | None]]) -> list[Row]:
    """Write the table; of each fact, the highest figure is marked."""
    best = [max((f.value for f in column if f), default=None) for column in zip(*figures.values(), strict=True)]
    return [
        Row(name, tuple(_cell(figure, top) for figure, top in zip(row, best, strict=True)))
        for name, row in figures.items()
    ]


def _cell(figure: Estimate | None, best: float | None) -> tuple[str, str, bool]:
    if figure is None:
        return "–", "", False
    low, high = figure.low, figure.high
    ends = "" if low is None or high is None else f"[{decimals(low, 3)}, {decimals(high, 3)}]"
    return decimals(figure.value, 3), ends, figure.value == best
