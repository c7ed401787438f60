"""The result in a table that fits the first screen: the runs in order of value, each with its verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stages.report.claims.references import UNTRAINED, reference_words
from stages.report.claims.without_labels import Compared
from stages.report.estimates import estimate, family_of, intervals_of, is_share
from stages.report.readers.comparison import Comparison, Verdict
from stages.report.readers.runs import Run
from stages.report.text import metric_title, number, one_line, points, signed

MOST_ROWS = 8


@dataclass(frozen=True)
class Row:
    """A run in the table.

    Args:
        name: of the run.
        remark: what it is a reference for; empty for others.
        value, interval: the figure.
        difference: from the run that all are compared with.
        verdict: "above", "below", "no difference shown", "not tested", or a dash for the run itself.
    """

    name: str
    remark: str
    value: str
    interval: str
    difference: str
    verdict: str


@dataclass(frozen=True)
class Table:
    """The table.

    Args:
        title: the caption.
        columns: headings of the second and the third column.
        rows: from high to low.
        left_out: number of runs without a row.
    """

    title: str
    columns: tuple[str, str]
    rows: tuple[Row, ...]
    left_out: int


def result_table(comparison: Comparison | None, runs: Sequence[Run], compared: Sequence[Compared] = ()) -> Table | None:
    """List runs by falling value, with verdicts on the untrained network or, without it, on the run that is highest.

    Args:
        comparison: verdicts; None before the summary stage ran.
        runs: of the page.
        compared: pretrained runs compared with the untrained network, for images without labels.

    Returns:
        The table; None where there are no figures.
    """
    family = family_of(comparison)
    estimates = [e for run in runs if (e := estimate(run, family, intervals_of(comparison)))]
    if not estimates:
        return _without_labels(compared) if compared else None
    estimates.sort(key=lambda e: (-e.value, e.name))
    by_name = {run.name: run for run in runs}
    untrained = [e.name for e in estimates if by_name[e.name].first.config.get("method") == UNTRAINED]
    against = untrained[0] if untrained else estimates[0].name
    verdicts = {frozenset((v.first, v.second)): v for v in comparison.verdicts} if comparison else {}
    write = points if is_share(runs, family) else signed
    rows = []
    for e in estimates[:MOST_ROWS]:
        ends = "" if e.low is None or e.high is None else f"[{number(e.low)}, {number(e.high)}]"
        found = _verdict(verdicts.get(frozenset((e.name, against))), e.name, write)
        words = ("", "–") if e.name == against else found
        remark = reference_words(by_name[e.name].first.config)
        rows.append(Row(e.name, remark, number(e.value), ends, *words))
    columns = ("Value", f"Against {one_line(against, 24)}{', points' if write is points else ''}")
    return Table(f"{metric_title(family)}, highest first", columns, tuple(rows), len(estimates) - len(rows))


def _verdict(verdict: Verdict | None, name: str, write: Callable[[float], str]) -> tuple[str, str]:
    if verdict is None:
        return "", "not tested"
    gap = verdict.gap if verdict.first == name else -verdict.gap
    if verdict.p is None:
        return write(gap), "not tested"
    return write(gap), "no difference shown" if not verdict.differs else "above" if gap > 0 else "below"


def _without_labels(compared: Sequence[Compared]) -> Table:
    rows = []
    for c in sorted(compared, key=lambda c: (c.shared.value, c.run))[:MOST_ROWS]:
        low, high = c.shared.low, c.shared.high
        ends = "" if low is None or high is None else f"[{100 * low:.0f}, {100 * high:.0f}]"
        agreement = "" if c.agreement is None else f"{100 * c.agreement.value:.0f} %"
        verdict = (
            "one seed" if c.agreement is None else "more than that" if (c.beyond[0] or 0) > 0 else "not shown more"
        )
        rows.append(Row(c.run, "", f"{100 * c.shared.value:.0f} %", ends, agreement, verdict))
    columns = (f"With {one_line(compared[0].untrained, 24)}", "Between seeds")
    return Table("Nearest neighbours in common, fewest first", columns, tuple(rows), len(compared) - len(rows))
