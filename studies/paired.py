"""How studies say what seeds give: means of settings, paired differences, 95 % intervals, and whether these show it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from reprise.measures.statistics import paired_t

Results = dict[str, dict[int, dict[str, float]]]  # figures of each setting, by seed


class Comparison(NamedTuple):
    """A row of a table: setting `a` against `b`, on one figure."""

    a: str
    b: str
    figure: str


class Said(NamedTuple):
    """Three cells of a table."""

    mean: str
    interval: str
    verdict: str


def said(differences: Sequence[float], digits: int = 1) -> Said:
    """Write a difference for a table.

    Args:
        differences: one of each seed, two or more. Equal ones have no spread, hence no interval, and show nothing.
        digits: after the point.
    """
    test = paired_t(differences)
    low, high = test.interval
    mean = f"{test.mean:+.{digits}f}"
    if low is None or high is None:
        return Said(mean, "no interval", "not shown")
    verdict = "above" if low > 0 else "below" if high < 0 else "not shown"
    return Said(mean, f"{low:+.{digits}f} to {high:+.{digits}f}", verdict)


def settings_and_differences(results: Results, comparisons: Sequence[Comparison], digits: Callable[[str], int]) -> str:
    """Write a table of the means of each setting and one of paired differences, as Markdown.

    A figure that a seed lacks is left out of its mean, which then says how many seeds have it, and of differences.

    Args:
        digits: after the point, for each figure.
    """
    lines = ["| setting | seeds | figures |", "|---|---|---|"]
    for name, seeds in results.items():
        means = []
        for figure in dict.fromkeys(figure for figures in seeds.values() for figure in figures):
            values = [figures[figure] for figures in seeds.values() if figure in figures]
            counted = "" if len(values) == len(seeds) else f" ({len(values)} of {len(seeds)} seeds)"
            means.append(f"{figure} {sum(values) / len(values):.{digits(figure)}f}{counted}")
        lines.append(f"| {name} | {len(seeds)} | {', '.join(means)} |")
    lines += ["", "| comparison | figure | seeds | difference | 95 % interval | |", "|---|---|---|---|---|---|"]
    for a, b, figure in comparisons:
        one, other = results.get(a, {}), results.get(b, {})
        common = [seed for seed in sorted(one.keys() & other.keys()) if figure in one[seed] and figure in other[seed]]
        if len(common) > 1:
            cells = said([one[seed][figure] - other[seed][figure] for seed in common], digits(figure))
            lines.append(f"| {a} against {b} | {figure} | {len(common)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
