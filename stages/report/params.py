"""Parameters of the report: the block `report` of params.yaml."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from reprise.config.params import StrictModel, meaning

SECTION = "report"


class ReportParams(StrictModel):
    """Choices about the page; everything else follows from the artifacts."""

    title: Annotated[
        str | None,
        Field(min_length=1, max_length=200),
        meaning("The page has this heading; null takes the name of the data set."),
    ] = None
    samples: Annotated[
        int,
        Field(ge=1, le=500),
        meaning("The grid of samples shows this many images.", "images"),
    ] = 48
