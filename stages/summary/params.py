"""Parameters of the summary: the block `summary` of params.yaml."""

from __future__ import annotations

from typing import Annotated

from reprise.config.params import IntervalParams, MetricName, meaning

SECTION = "summary"


class SummaryParams(IntervalParams):
    """How runs are compared."""

    family: Annotated[
        MetricName, meaning("The differences of this metric between all pairs of runs are tested together (Holm).")
    ] = "knn.top1"
