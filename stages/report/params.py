"""Parameters of the report: the block `report` of params.yaml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from reprise.config.params import MetricName, StrictModel, meaning

SECTION = "report"


class ReportParams(StrictModel):
    """Choices about the page; everything else follows from the artifacts."""

    title: Annotated[
        str | None,
        Field(min_length=1, max_length=200),
        meaning("The page has this heading; null takes the name of the data set."),
    ] = None
    map_colours: Annotated[
        Literal["classes", "clusters"],
        meaning(
            "The map of embeddings is coloured by class where there are classes, or always by the clusters that the "
            "probe `clustering` finds."
        ),
    ] = "classes"
    samples: Annotated[
        int,
        Field(ge=1, le=500),
        meaning("The grid of samples shows this many images.", "images"),
    ] = 48
    metrics: Annotated[
        list[MetricName],
        Field(max_length=20),
        meaning(
            "All pairs of runs are tested on these metrics, too, with Holm's correction over all of them together."
        ),
    ] = Field(default_factory=list)

    @field_validator("metrics")
    @classmethod
    def _each_once(cls, metrics: list[str]) -> list[str]:
        if len(set(metrics)) < len(metrics):
            raise ValueError("name each metric once")
        return metrics
