"""The section `between` of params.yaml: what is compared between all pairs of runs."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from reprise.config.params import Name, StrictModel

SECTION = "between"


class BetweenParams(StrictModel):
    """rows: images of train, and of the split that is scored, at most, by key hash. probes: a block each."""

    rows: Annotated[int, Field(ge=50, le=20_000)] = 2000
    probes: Annotated[dict[Name, dict[str, Any]], Field(default_factory=dict)]
