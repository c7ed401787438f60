"""Parameters of the report: the block `report` of params.yaml."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from reprise.config.params import StrictModel, meaning

SECTION = "report"


class ReportParams(StrictModel):
    """The one choice about the page; everything else follows from the artifacts."""

    samples: Annotated[
        int,
        Field(ge=1, le=500),
        meaning("The grid of samples shows this many images.", "images"),
    ] = 48
