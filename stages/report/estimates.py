"""One figure for a run from the figures of its seeds, and the metric that runs are compared by."""

from __future__ import annotations

from collections.abc import Sequence

from reprise.measures.statistics import CONFIDENCE
from stages.report.drawing.charts import Estimate
from stages.report.readers.comparison import Comparison, Intervals
from stages.report.readers.runs import Run

DEFAULT_FAMILY = "knn.top1"  # before the summary stage ran


def family_of(comparison: Comparison | None) -> str:
    """Name the metric ("<probe>.<name>") by which runs are compared."""
    return comparison.family if comparison else DEFAULT_FAMILY


def intervals_of(comparison: Comparison | None) -> Intervals:
    """Give the intervals of the means over seeds; none before the summary stage ran."""
    return comparison.intervals if comparison else {}


def confidence_of(comparison: Comparison | None) -> float:
    """Give the level of the intervals; the usual one before the summary stage ran."""
    return comparison.confidence if comparison else CONFIDENCE


def estimate(run: Run, metric: str, intervals: Intervals) -> Estimate | None:
    """Average a metric of a run over its seeds; None when no seed has the metric.

    With one seed the interval over examples is the probe's; with several it is the summary's, of the mean.

    Args:
        run: the run.
        metric: "<probe>.<name>".
        intervals: (run, metric) -> both ends of the interval of the mean over seeds.
    """
    figures = [seed.figures[metric] for seed in run.seeds if metric in seed.figures]
    if not figures:
        return None
    ends = (figures[0].low, figures[0].high) if len(figures) == 1 else intervals.get((run.name, metric), (None, None))
    values = tuple(figure.value for figure in figures)
    return Estimate(run.name, sum(values) / len(values), *ends, values)


def is_share(runs: Sequence[Run], metric: str) -> bool:
    """Tell whether every figure of a metric lies between 0 and 1, so that differences are in percentage points."""
    values = [seed.figures[metric].value for run in runs for seed in run.seeds if metric in seed.figures]
    return bool(values) and all(0 <= value <= 1 for value in values)
