"""The rule of the gate on figures that are known; tests/pipeline/compare/test_compare.py runs it on a project."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pipeline.compare.gate import Judgement, Ruling, _rule
from pipeline.compare.revisions import Figure, Measurements
from reprise.measures.statistics import NO_INTERVAL, Interval

METRIC = "knn.top1_val"


def measured(values: Sequence[float], half: float | None = 0.03) -> Measurements:
    """The figures of a run: one a seed, each with an interval of this half width."""
    figures = {
        seed: Figure(value, *((None, None) if half is None else (value - half, value + half)))
        for seed, value in enumerate(values)
    }
    return Measurements("HEAD", {"run": {METRIC: sum(values) / len(values)}}, {METRIC: {"run": figures}})


def ruling(before: Sequence[float], after: Sequence[float], margin: float = 0.0, half: float | None = 0.03) -> Ruling:
    return _rule("run", METRIC, measured(before, half), measured(after, half), margin)


def test_a_loss_that_differs_between_seeds_fails() -> None:
    """The interval over seeds holds 0, because one seed lost most; that over examples does not."""
    found = ruling([0.80, 0.81, 0.79], [0.75, 0.79, 0.50])
    assert found.interval.high is not None and found.interval.high > 0
    wide = 0.03 * 2**0.5
    assert found.over_examples == (pytest.approx(-0.12 - wide), pytest.approx(-0.12 + wide))
    assert not found.passed
    line = Judgement(METRIC, "HEAD", 0.0, (found,)).lines()[0]
    assert "over 3 seeds and [-0.1624, -0.0776] over examples, unpaired: FAILS" in line
    assert ruling([0.80, 0.81, 0.79], [0.75, 0.79, 0.50], 0.08).passed


def test_seeds_that_agree_fail_within_the_interval_over_examples() -> None:
    found = ruling([0.80, 0.81, 0.79], [0.78, 0.79, 0.771])
    assert found.over_examples.high is not None and found.over_examples.high > 0
    assert not found.passed


def test_two_seeds_have_an_interval_over_examples() -> None:
    assert ruling([0.5, 0.5], [0.49, 0.48]).passed
    assert not ruling([0.5, 0.5], [0.40, 0.39]).passed


def test_the_difference_itself_decides_where_there_is_no_interval() -> None:
    found = ruling([0.5, 0.5], [0.49, 0.5], half=None)
    assert (found.interval, found.over_examples, found.passed) == (NO_INTERVAL, NO_INTERVAL, False)
    assert ruling([0.5, 0.5, 0.5], [0.4, 0.5, 0.3], half=None).over_examples == Interval(None, None)
    assert ruling([0.5], [0.49, 0.5]).over_examples == NO_INTERVAL  # of other seeds: another difference
