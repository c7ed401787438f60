"""Under shift: what each run still answers right on changed images and on images from elsewhere.

Checked by: tests/stages/report/sections/test_shifts.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from reprise.measures.statistics import CONFIDENCE, NO_INTERVAL, bootstrap_mean, difference_of_shares, share
from stages.report.drawing.charts import COLOURS, Estimate
from stages.report.drawing.severities import BySeverity, severity_chart
from stages.report.readers.runs import Run
from stages.report.readers.shifts import ShiftedAnswers, ShiftedSet
from stages.report.section_registry import Absent
from stages.report.text import number, points

TITLE = "Under shift"
ORDER = 75
READS = ("shifted", "runs")

MOST_RUNS = 12  # of a probe; the tables of figures have all
MEAN = "Mean over corruptions"


@dataclass(frozen=True)
class Row:
    """A set of shifted images: its name, what it is, and a cell for each run (accuracy, interval, drop, interval)."""

    name: str
    what: str
    cells: tuple[tuple[str, str, str, str] | None, ...]


@dataclass(frozen=True)
class Probed:
    """What one probe says.

    Args:
        probe: its name.
        runs: name and number of the colour of each run.
        clean: accuracy and interval of each run on the scored split.
        charts: by severity, the mean over corruptions first.
        corruptions, sources: a row a set.
        left_out: number of runs that are not shown.
        notes: set -> what was said of its images.
    """

    probe: str
    runs: tuple[tuple[str, int], ...]
    clean: tuple[tuple[str, str], ...]
    charts: tuple[Markup, ...]
    corruptions: tuple[Row, ...]
    sources: tuple[Row, ...]
    left_out: int
    notes: tuple[tuple[str, str], ...]


def show(shifted: tuple[ShiftedAnswers, ...], runs: tuple[Run, ...]) -> dict[str, Any] | Absent:
    """Draw charts by severity and write a table for every probe on shifted images."""
    if not shifted:
        return Absent("No run was measured on shifted images: `shifts` in params.yaml lists none.")
    by_name = {run.name: run for run in runs}
    probes = dict.fromkeys(answers.probe for answers in shifted)
    return {"probes": [probed([a for a in shifted if a.probe == probe], by_name) for probe in probes]}


def probed(answers: Sequence[ShiftedAnswers], runs: dict[str, Run]) -> Probed:
    """Sum up one probe over its runs."""
    shown = answers[:MOST_RUNS]
    probe, confidence = shown[0].probe, _confidence(runs[shown[0].run], shown[0].probe)
    clean = [_clean(a, runs[a.run], confidence) for a in shown]
    names = list(dict.fromkeys(one.name for a in shown for one in a.sets))
    rows = [(name, _row(name, shown, clean, confidence)) for name in names]
    sets = {one.name: one for a in reversed(shown) for one in a.sets}
    protocol = runs[shown[0].run].first.protocol.get(probe, {})
    return Probed(
        probe,
        tuple((a.run, i % COLOURS) for i, a in enumerate(shown)),
        tuple((number(c.value), _ends(c.low, c.high)) for c in clean),
        _charts(shown, clean, confidence),
        tuple(row for name, row in rows if sets[name].severity is not None),
        tuple(row for name, row in rows if sets[name].severity is None),
        len(answers) - len(shown),
        tuple((name, str(protocol[name])) for name in names if name in protocol),
    )


def estimated(correct: np.ndarray, groups: np.ndarray | None, confidence: float, name: str = "") -> Estimate:
    """Return the mean over seeds of a share, with its interval over examples.

    Args:
        correct: (seeds, n) numbers: right or wrong, or a mean over corruptions.
        groups: (n,) integers, or None.
        confidence: of the interval.
        name: of the estimate.
    """
    values = tuple(float(v) for v in correct.mean(axis=1))
    if len(correct) == 1 and correct.dtype == np.bool_:
        low, high = share(correct[0], groups, confidence)
    else:
        low, high = bootstrap_mean(correct.mean(axis=0), groups, confidence)
    return Estimate(name, float(np.mean(values)), low, high, values)


def _clean(answers: ShiftedAnswers, run: Run, confidence: float) -> Estimate:
    """Take the accuracy on the scored split from a corruption's pairs; without any, the probe's own figures."""
    for one in answers.sets:
        if one.clean is not None:
            return estimated(one.clean, one.groups, confidence, run.name)
    figures = [s.figures[f"{answers.probe}.clean"] for s in run.seeds if f"{answers.probe}.clean" in s.figures]
    values = tuple(figure.value for figure in figures)
    ends = (figures[0].low, figures[0].high) if len(figures) == 1 else NO_INTERVAL
    return Estimate(run.name, float(np.mean(values)) if values else float("nan"), *ends, values)


def _charts(shown: Sequence[ShiftedAnswers], clean: Sequence[Estimate], confidence: float) -> tuple[Markup, ...]:
    """Draw the mean over corruptions at severities that several have, then each corruption with several severities."""
    shifts = dict.fromkeys(one.shift for a in shown for one in a.sets if one.severity is not None)
    lines = [_mean_line(a, c, confidence) for a, c in zip(shown, clean, strict=True)]
    charts = [severity_chart(lines, MEAN)] if all(len(line.points) > 1 for line in lines) else []
    for shift in shifts:
        lines = [
            BySeverity(a.run, ((0, c), *_points([one for one in a.sets if one.shift == shift], confidence)))
            for a, c in zip(shown, clean, strict=True)
        ]
        if all(len(line.points) > 2 for line in lines):
            charts.append(severity_chart(lines, shift))
    return tuple(charts)


def _points(sets: Sequence[ShiftedSet], confidence: float) -> list[tuple[int, Estimate]]:
    known = {one.severity: estimated(one.correct, one.groups, confidence) for one in sets if one.severity is not None}
    return sorted(known.items())


def _mean_line(answers: ShiftedAnswers, clean: Estimate, confidence: float) -> BySeverity:
    """Average over corruptions at each severity that at least two of them have."""
    line = [(0, clean)]
    for severity in sorted({one.severity for one in answers.sets if one.severity is not None}):
        chosen = [one for one in answers.sets if one.severity == severity]
        if len({one.shift for one in chosen}) > 1:
            correct = np.mean([one.correct for one in chosen], axis=0)
            line.append((severity, estimated(correct, chosen[0].groups, confidence)))
    return BySeverity(answers.run, tuple(line))


def _row(name: str, shown: Sequence[ShiftedAnswers], clean: Sequence[Estimate], confidence: float) -> Row:
    cells: list[tuple[str, str, str, str] | None] = []
    what = ""
    for answers, before in zip(shown, clean, strict=True):
        one = next((s for s in answers.sets if s.name == name), None)
        if one is None:
            cells.append(None)
            continue
        what = one.shift if one.severity is None else f"{one.shift}, severity {one.severity}"
        after = estimated(one.correct, one.groups, confidence)
        if one.clean is None:
            fall = difference_of_shares(before.value, (before.low, before.high), after.value, (after.low, after.high))
        else:
            fall = bootstrap_mean((one.clean.astype(float) - one.correct).mean(axis=0), one.groups, confidence)
        drop = before.value - after.value
        cells.append((number(after.value), _ends(after.low, after.high), points(-drop), _fall(*fall)))
    return Row(name, what, tuple(cells))


def _confidence(run: Run, probe: str) -> float:
    """Read the confidence of the intervals in the protocol."""
    try:
        return float(run.first.protocol[probe]["confidence"])
    except (KeyError, TypeError, ValueError):
        return CONFIDENCE


def _ends(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"[{number(low)}, {number(high)}]"


def _fall(low: float | None, high: float | None) -> str:
    """Write the interval of a drop as that of the change, which is negative."""
    return "" if low is None or high is None else f"[{points(-high)}, {points(-low)}]"
