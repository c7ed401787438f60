"""Few labels: what a linear probe reaches with a share of the labels, for each run and against the references.

Checked by: tests/stages/report/claims/test_few_labels.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stages.report.claims.few_labels import Gap, gaps, shares_of
from stages.report.drawing.charts import COLOURS, Estimate
from stages.report.drawing.curve import share_chart
from stages.report.estimates import estimate, intervals_of
from stages.report.readers.comparison import Comparison
from stages.report.readers.runs import Run
from stages.report.section_registry import Absent
from stages.report.text import number, points

TITLE = "Few labels"
ORDER = 6
READS = ("runs", "comparison")

MOST_RUNS = COLOURS  # drawn; the table has all


@dataclass(frozen=True)
class Row:
    """A run in the table: at each share the figure with its interval, or a dash."""

    run: str
    cells: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class GapRow:
    """A run against a reference: at each share the difference in points with its interval, p, and whether it counts."""

    run: str
    reference: str
    cells: tuple[tuple[str, str, str, bool], ...]


def show(runs: tuple[Run, ...], comparison: Comparison | None) -> dict[str, Any] | Absent:
    """Draw the figures of all runs over the share of labels, and compare them with the references."""
    shares = shares_of(runs)
    if not shares:
        return Absent("Nothing was measured with a share of the labels: see the probe `label_fraction`.")
    intervals = intervals_of(comparison)
    figures = {
        run.name: {percent: e for percent, metric in shares.items() if (e := estimate(run, metric, intervals))}
        for run in runs
    }
    measured = [(name, found) for name, found in figures.items() if found]
    return {
        "chart": share_chart(measured[:MOST_RUNS], "Accuracy of a linear probe over the share of labels, by run"),
        "drawn": [name for name, _ in measured[:MOST_RUNS]],
        "left_out": len(measured) - len(measured[:MOST_RUNS]),
        "percents": [f"{percent:g} %" for percent in shares],
        "rows": [Row(name, tuple(_cell(found.get(percent)) for percent in shares)) for name, found in measured],
        "gaps": gap_rows(gaps(runs, comparison.confidence), list(shares)) if comparison else [],
        "seeds": max(len(run.seeds) for run in runs),
    }


def gap_rows(found: Sequence[Gap], percents: Sequence[float]) -> list[GapRow]:
    """Sort comparisons into a row for each run and reference."""
    by_pair: dict[tuple[str, str], dict[float, Gap]] = {}
    for gap in found:
        by_pair.setdefault((gap.run, gap.reference), {})[gap.percent] = gap
    return [
        GapRow(run, reference, tuple(_gap(by_percent.get(percent)) for percent in percents))
        for (run, reference), by_percent in by_pair.items()
    ]


def _cell(figure: Estimate | None) -> tuple[str, str]:
    if figure is None:
        return "–", ""
    ends = "" if figure.low is None or figure.high is None else f"[{number(figure.low)}, {number(figure.high)}]"
    return number(figure.value), ends


def _gap(gap: Gap | None) -> tuple[str, str, str, bool]:
    if gap is None:
        return "–", "", "", False
    ends = "" if gap.low is None or gap.high is None else f"[{points(gap.low)}, {points(gap.high)}]"
    return points(gap.difference), ends, "p < 0.001" if gap.p < 0.001 else f"p = {gap.p:.3f}", gap.differs
