"""Choose what of a history is shown, and write it as rows of a table and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.compare.history.points import History, Point
from pipeline.compare.revisions import Figure
from pipeline.compare.runs import can_be_tested, in_digits, read_family
from reprise.artifacts.layout import PARAMS
from reprise.config.errors import ResultError
from reprise.config.params import read_yaml
from reprise.measures.statistics import NO_INTERVAL, SEEDS_FOR_METHODS, Interval, paired_t

MOST_CHANGES = 12  # of the parameters of one point


def chosen_metrics(history: History, asked: Sequence[str], root: Path = Path()) -> list[str]:
    """Return the metrics to show: those that were asked for, or the one that is tested and those of the report.

    Raises:
        ResultError: no point has one of those that were asked for.
    """
    known = {metric for point in history.points for values in point.measured.means.values() for metric in values}
    unknown = [metric for metric in asked if metric not in known]
    if unknown:
        raise ResultError(
            "no revision has this metric",
            where="reprise history",
            found=", ".join(unknown),
            fix=f"Use some of: {', '.join(sorted(known))}.",
        )
    further = (read_yaml(root / PARAMS).get("report") or {}).get("metrics") or []
    listed = [read_family(root), *(name for name in further if isinstance(name, str))]
    wanted = list(dict.fromkeys(asked or [name for name in listed if name in known]))
    return wanted or sorted(known)[:1]


def runs_of(history: History, metric: str, asked: Sequence[str] = ()) -> list[str]:
    """Return the runs that have a metric at some point, in the order of the newest point that has them."""
    found = dict.fromkeys(
        run
        for point in reversed(history.points)
        for run, values in point.measured.means.items()
        if metric in values and (not asked or run in asked)
    )
    return list(found)


def interval_of(point: Point, metric: str, run: str) -> Interval:
    """Return the interval of a mean: over seeds where there are three or more, over examples of a single seed."""
    figures: Mapping[int, Figure] = point.measured.seeds.get(metric, {}).get(run, {})
    values = [figure.value for figure in figures.values()]
    if not values or not can_be_tested(values):
        return NO_INTERVAL
    if len(values) == 1:
        only = next(iter(figures.values()))
        return Interval(only.low, only.high)
    # The t interval of a mean is that of differences from nothing.
    return paired_t(values).interval if len(values) >= SEEDS_FOR_METHODS else NO_INTERVAL


def rows(history: History, metric: str, runs: Sequence[str]) -> list[list[str]]:
    """Return the rows of a table: number, when, point, a value for each run, what changed and what must be known."""
    found = []
    for number, point in enumerate(history.points, 1):
        values = [point.measured.means.get(run, {}).get(metric) for run in runs]
        shown = ["-" if value is None else in_digits(value) for value in values]
        changed = changes(point) or ([] if number > 1 else ["the first point"])
        notes = [f"note: {note}" for note in point.notes]
        said = "; ".join([*changed, *notes])
        found.append([str(number), point.when[:16].replace("T", " "), title(point), *shown, said])
    return found


OUTCOME_COLUMNS = ("when (UTC)", "promoted or refused", "why")


def outcome_rows(history: History) -> list[list[str]]:
    """Return a row of OUTCOME_COLUMNS for each version that was promoted and each run that did not complete."""
    return [
        [outcome.when[:16].replace("T", " "), f"{outcome.kind} {outcome.name}", outcome.message]
        for outcome in history.outcomes
    ]


def title(point: Point) -> str:
    """Name a point in a few words."""
    return f"{point.name} {point.subject}".strip()


def changes(point: Point, most: int = MOST_CHANGES) -> list[str]:
    """Say what changed since the point before, a line each."""
    if point.parameters is None:
        lines = ["the parameters cannot be compared"]
    else:
        lines = [change.line() for change in point.parameters[:most]]
        lines += [f"{len(point.parameters) - most} more parameters"] if len(point.parameters) > most else []
    if point.images_changed:
        lines.append("the images or their labels changed")
    elif point.images_changed is None:
        lines.append("nobody can tell whether the images changed")
    return lines


def marks(point: Point) -> str:
    """Return the letters of a point: D where the data changed, P where parameters did."""
    return ("D" if point.images_changed else "") + ("P" if point.parameters else "")


def document(history: History, metrics: Sequence[str], runs: Sequence[str] = ()) -> dict[str, Any]:
    """Return the history for programs."""
    return {
        "metrics": list(metrics),
        "notes": list(history.notes),
        "points": [_point(number, point, metrics, runs) for number, point in enumerate(history.points, 1)],
        "outcomes": [vars(outcome) for outcome in history.outcomes],
    }


def _point(number: int, point: Point, metrics: Sequence[str], runs: Sequence[str]) -> dict[str, Any]:
    figures: dict[str, dict[str, Any]] = {}
    for metric in metrics:
        for run, values in point.measured.means.items():
            if metric in values and (not runs or run in runs):
                low, high = interval_of(point, metric, run)
                by_seed = point.measured.seeds.get(metric, {}).get(run, {})
                figure = {"value": values[metric], "low": low, "high": high, "seeds": len(by_seed) or None}
                figures.setdefault(metric, {})[run] = figure
    return {
        "number": number,
        "kind": point.kind,
        "name": point.name,
        "commit": point.commit,
        "when": point.when,
        "subject": point.subject,
        "also": point.also,
        "notes": point.notes,
        "parameters": None if point.parameters is None else [vars(change) for change in point.parameters],
        "images_changed": point.images_changed,
        "figures": figures,
        "verdicts": point.verdicts,
    }
