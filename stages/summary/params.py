"""The section `summary` of params.yaml."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from reprise.config.params import IntervalParams

SECTION = "summary"


class SummaryParams(IntervalParams):
    """family: `<probe>.<metric>` whose differences between all pairs of runs are tested together (Holm)."""

    family: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$")] = "knn.top1"
