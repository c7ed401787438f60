"""The figures of a sweep over one of its parameters: a learning curve over the share of images, for example.

Points may differ in other parameters as well; a plan that gives small shares more epochs keeps the number of steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import mean

from pipeline.compare.revisions import Figure
from pipeline.processes import markdown
from reprise.measures.statistics import SEEDS_FOR_METHODS, Pair, compare, holm, paired_t

Seeds = Mapping[int, Figure]
Runs = Mapping[str, Seeds]


@dataclass(frozen=True)
class Axis:
    """What a sweep is drawn over.

    Attributes:
        key: dotted key of params.yaml.
        values: point -> number.
        reference: the run that the others are compared with at each point; None for no comparison.
    """

    key: str
    values: Mapping[str, float]
    reference: str | None = None


def curve_tables(axis: Axis, figures: Mapping[str, Runs], metric: str, confidence: float) -> list[str]:
    """Write the curve of every run as lines of Markdown.

    Args:
        axis: what it is drawn over.
        figures: point -> run -> seed -> figure, of the points that are done.
        metric: whose figures these are.
        confidence: level of the intervals, in (0, 1).
    """
    points = sorted((point for point in figures if point in axis.values), key=axis.values.__getitem__)
    runs = list(dict.fromkeys(run for point in points for run in figures[point]))
    if not runs:
        return []
    columns = ["run", *(f"{axis.values[point]:g}" for point in points)]
    rows = [[run, *(_level(figures[point].get(run, {}), confidence) for point in points)] for run in runs]
    lines = [
        f"## `{metric}` over `{axis.key}`",
        "",
        f"Means over seeds; in brackets the interval over seeds ({confidence:.0%}), which {SEEDS_FOR_METHODS} seeds",
        "and more allow, or with one seed that over examples.",
        "",
        markdown.table(columns, rows),
        "",
    ]
    if axis.reference in runs:
        gaps = _gaps(figures, points, axis.reference, confidence)
        others = [run for run in runs if run != axis.reference]
        lines += [
            f"Differences from `{axis.reference}` at the same value, paired by seed, with their intervals; p is from a",
            "paired t test, after Holm's correction over all cells of this table. Without p nothing is claimed.",
            "",
            markdown.table(columns, [[run, *(gaps.get((point, run), "") for point in points)] for run in others]),
            "",
        ]
    return lines


def _level(seeds: Seeds, confidence: float) -> str:
    """Write the mean over seeds with its interval, where there is one."""
    if not seeds:
        return ""
    values = [figure.value for figure in seeds.values()]
    low, high = None, None
    if len(values) == 1:
        _, low, high = next(iter(seeds.values()))
    elif len(values) >= SEEDS_FOR_METHODS:
        low, high = paired_t(values, confidence).interval
    return f"{mean(values):.4f}{_brackets(low, high)}"


def _gaps(
    figures: Mapping[str, Runs], points: list[str], reference: str, confidence: float
) -> dict[tuple[str, str], str]:
    """Write the difference of each run from the reference at each point."""
    pairs: dict[tuple[str, str], Pair] = {}
    for point in points:
        for run in figures[point]:
            if run == reference or reference not in figures[point]:
                continue
            both = {n: {s: f.value for s, f in figures[point][n].items()} for n in (reference, run)}
            for pair in compare(both, confidence=confidence):  # one, or none where they share no seed
                pairs[point, run] = pair
    tested = [cell for cell, pair in pairs.items() if pair.p is not None]
    adjusted = dict(zip(tested, holm([pairs[cell].p or 0.0 for cell in tested]), strict=True))
    return {
        cell: f"{pair.difference:+.4f}{_brackets(*pair.over_seeds, sign='+')}"
        + (f", p {'< 0.001' if adjusted[cell] < 0.001 else f'= {adjusted[cell]:.3f}'}" if cell in adjusted else "")
        for cell, pair in pairs.items()
    }


def _brackets(low: float | None, high: float | None, sign: str = "") -> str:
    return "" if low is None or high is None else f" [{low:{sign}.4f}, {high:{sign}.4f}]"
