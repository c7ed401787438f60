"""Verdicts on pairs of runs: data/summary/comparison.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reprise.artifacts import layout
from reprise.measures.statistics import CONFIDENCE
from stages.report.readers.shape import expected_shape, read_object
from stages.report.text import one_line

SUMMARY = layout.COMPARISON
TEST_OVER_SEEDS = "paired t"  # its result is about methods; the other tests compare trained models
Intervals = Mapping[tuple[str, str], tuple[float | None, float | None]]  # (run, metric) -> both ends


@dataclass(frozen=True)
class Verdict:
    """The comparison of two runs.

    Args:
        first, second: names of the runs.
        gap: the metric of the first minus that of the second.
        low, high: the interval of the gap; None where there is none.
        p: p-value after Holm's correction; None where no test was possible.
        differs: whether the test shows a difference.
        sentence: the verdict of the summary stage in words.
        unequal: in what the budgets of the two differ, in words; empty where they are equal.
    """

    first: str
    second: str
    gap: float
    low: float | None
    high: float | None
    p: float | None
    differs: bool
    sentence: str
    unequal: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """What the verdict says, in a few words."""
        if self.p is None:
            return self.sentence
        pair = (self.first, self.second)
        higher, lower = pair if self.gap > 0 else reversed(pair)
        words = f"{one_line(higher)} is above {one_line(lower)}" if self.differs else "no difference shown"
        return f"{words}; unequal budgets: {', '.join(self.unequal)}" if self.unequal else words


@dataclass(frozen=True)
class Comparison:
    """All verdicts on one metric.

    Args:
        family: the metric, "<probe>.<name>".
        claim: "models" with one seed, "methods" with enough seeds, "none" with a number of seeds between.
        tests: names of the tests that gave the p-values.
        seeds: the smallest number of seeds in a pair.
        verdicts: one for each pair.
        intervals: the interval over examples of each run's mean over seeds, for every metric.
        remarks: warnings and notes of the summary stage.
        order: names of the runs in the order of params.yaml.
        confidence: level of the intervals; 1 minus it is that of the tests.
    """

    family: str
    claim: str
    tests: tuple[str, ...]
    seeds: int
    verdicts: tuple[Verdict, ...]
    intervals: Intervals
    remarks: tuple[str, ...]
    order: tuple[str, ...]
    confidence: float = CONFIDENCE


def read_comparison() -> Comparison | None:
    """Read comparison.json; None before the summary stage ran.

    Raises:
        ResultError: the file is damaged or of another shape.
    """
    if not SUMMARY.exists():
        return None
    raw = read_object(SUMMARY, "summary")
    with expected_shape(SUMMARY, "summary"):
        pairs = raw["pairs"]
        level = 1 - float(raw["confidence"])
        tests = tuple(sorted({str(pair["test"]) for pair in pairs if pair["p_adjusted"] is not None}))
        return Comparison(
            family=str(raw["family"]),
            claim="methods" if tests == (TEST_OVER_SEEDS,) else "models" if tests else "none",
            tests=tests,
            seeds=min((len(pair["seeds"]) for pair in pairs), default=0),
            verdicts=tuple(_verdict(pair, level) for pair in pairs),
            intervals={
                (run, metric): (figure["low"], figure["high"])
                for metric, by_run in raw["metrics"].items()
                for run, figure in by_run.items()
            },
            remarks=(*map(str, raw["warnings"]), *map(str, raw["notes"])),
            order=tuple(map(str, raw["runs"])),
            confidence=float(raw["confidence"]),
        )


def _verdict(pair: dict[str, Any], level: float) -> Verdict:
    p = pair["p_adjusted"]
    interval = pair["over_seeds"] if pair["test"] == TEST_OVER_SEEDS else pair["over_examples"]
    return Verdict(
        first=str(pair["a"]),
        second=str(pair["b"]),
        gap=float(pair["difference"]),
        low=None if interval["low"] is None else float(interval["low"]),
        high=None if interval["high"] is None else float(interval["high"]),
        p=None if p is None else float(p),
        differs=p is not None and p < level,
        sentence=str(pair["verdict"]),
        unequal=tuple(map(str, pair.get("unequal") or ())),
    )
