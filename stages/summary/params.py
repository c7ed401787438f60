"""The section `summary` of params.yaml."""

from __future__ import annotations

from reprise.config.params import IntervalParams, MetricName

SECTION = "summary"


class SummaryParams(IntervalParams):
    """family: `<probe>.<metric>` whose differences between all pairs of runs are tested together (Holm)."""

    family: MetricName = "knn.top1"
