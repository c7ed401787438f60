"""Parameters of the summary: the block `summary` of params.yaml."""

from __future__ import annotations

from reprise.config.params import IntervalParams, MetricName

SECTION = "summary"


class SummaryParams(IntervalParams):
    """The tests of differences between runs.

    Attributes:
        family: `<probe>.<metric>`; its differences between all pairs of runs are tested together (Holm).
    """

    family: MetricName = "knn.top1"
