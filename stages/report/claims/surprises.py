"""Surprising verdicts: the test shows a run above another that one expects to be above it.

One expects training on the true labels above pretraining, pretraining above a method without gradient steps
(`patch_kmeans`), and that above the untrained network. A verdict against this order is worth more than any other on the
page, so the head of the page names it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from reprise.artifacts.budgets import trains
from stages.report.claims.references import PUBLISHED, SUPERVISED, UNTRAINED, reference_words
from stages.report.estimates import is_share
from stages.report.readers.comparison import Comparison
from stages.report.readers.runs import Run
from stages.report.text import join_words, number, one_line, plain_points

_MOST = 4  # sentences
_WORDS = ("the untrained network", "which takes no gradient steps", "which was pretrained")


def surprises(comparison: Comparison, runs: Sequence[Run]) -> tuple[str, ...]:
    """Name the runs that are above others against the order, a sentence for each, the largest difference first."""
    places = {run.name: place for run in runs if (place := expected_place(run)) is not None}
    by_name = {run.name: run for run in runs}
    found: dict[str, list[tuple[float, str, bool]]] = {}
    for verdict in comparison.verdicts:
        pair = (verdict.first, verdict.second)
        if not verdict.differs or not set(pair) <= places.keys():
            continue
        higher, lower = pair if verdict.gap > 0 else pair[::-1]
        if places[higher] < places[lower]:
            found.setdefault(higher, []).append((abs(verdict.gap), lower, bool(verdict.unequal)))
    ranked = sorted(found.items(), key=lambda item: (-max(item[1])[0], item[0]))
    write = plain_points if is_share(runs, comparison.family) else number
    return tuple(_sentence(by_name[name], sorted(below, reverse=True), write) for name, below in ranked[:_MOST])


def expected_place(run: Run) -> int | None:
    """Return the place of a run in the expected order, from low to high; None where one expects nothing of it."""
    config = run.first.config
    if config.get("method") == UNTRAINED:
        return 0
    if config.get("method") == PUBLISHED:
        return None
    if not trains(config):
        return 1
    return 3 if config.get("method") == SUPERVISED and reference_words(config) else 2


def _sentence(run: Run, below: Sequence[tuple[float, str, bool]], write: Callable[[float], str]) -> str:
    place = expected_place(run) or 0
    others = join_words([f"{one_line(name)} (by {write(gap)})" for gap, name, _ in below], 6)
    unequal = ", at unequal budgets" if any(unlike for _, _, unlike in below) else ""
    return f"Surprising: {one_line(run.name)}, {_WORDS[place]}, is above {others}{unequal}."
