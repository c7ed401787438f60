"""Verdicts on the metrics that `report.metrics` lists, besides the one of `summary.family`.

All pairs of runs on all listed metrics are one family: Holm's correction is over all of them together, so that listing
many metrics does not find differences by chance. The tests are those of docs/explanation/statistics.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reprise.artifacts.budgets import differences
from reprise.measures.statistics import Interval, Pair, compare, holm
from stages.report.readers.answers import Answers
from stages.report.readers.comparison import TEST_OVER_SEEDS, Verdict
from stages.report.readers.runs import Run

ACCURACY = "top1"  # the metric whose answers per image are kept


@dataclass(frozen=True)
class MetricVerdicts:
    """Verdicts on all pairs of runs on one metric; `tested` counts the comparisons of the whole family."""

    metric: str
    verdicts: tuple[Verdict, ...]
    tested: int


def further_verdicts(
    runs: Sequence[Run], metrics: Sequence[str], answers: Mapping[str, Answers], confidence: float
) -> tuple[MetricVerdicts, ...]:
    """Test all pairs of runs on every metric; a metric that no two runs have is left out.

    Args:
        runs: of the page.
        metrics: "<probe>.<metric>", each once.
        answers: probe -> right or wrong by image.
        confidence: level of the intervals; 1 minus it is that of the tests.
    """
    pairs = {metric: found for metric in metrics if (found := _pairs(runs, metric, answers, confidence))}
    tested = [(metric, i) for metric, found in pairs.items() for i, pair in enumerate(found) if pair.p is not None]
    adjusted = dict(zip(tested, holm([pairs[metric][i].p or 0.0 for metric, i in tested]), strict=True))
    configs = {run.name: run.first.config for run in runs}
    return tuple(
        MetricVerdicts(
            metric,
            tuple(
                _verdict(pair, adjusted.get((metric, i)), confidence, differences(configs[pair.a], configs[pair.b]))
                for i, pair in enumerate(found)
            ),
            len(tested),
        )
        for metric, found in pairs.items()
    )


def _pairs(runs: Sequence[Run], metric: str, answers: Mapping[str, Answers], confidence: float) -> list[Pair]:
    probe, _, name = metric.partition(".")
    values = {run.name: {s.seed: s.figures[metric].value for s in run.seeds if metric in s.figures} for run in runs}
    values = {run: by_seed for run, by_seed in values.items() if by_seed}
    known = answers.get(probe) if name == ACCURACY else None
    if known is None or any(seed not in known.correct.get(run, {}) for run, seeds in values.items() for seed in seeds):
        return compare(values, confidence=confidence)
    return compare(values, known.correct, known.groups, confidence)


def _verdict(pair: Pair, p: float | None, confidence: float, unequal: Sequence[str]) -> Verdict:
    interval: Interval = pair.over_seeds if pair.test == TEST_OVER_SEEDS else pair.over_examples
    differs = p is not None and p < 1 - confidence
    words = "not tested"
    return Verdict(
        pair.a, pair.b, pair.difference, *interval, p, differs, "" if p is not None else words, tuple(unequal)
    )
