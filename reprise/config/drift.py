"""The section `drift` of params.yaml: when new images differ so much from those before that somebody should look."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from reprise.config.params import StrictModel, meaning, parse

SECTION = "drift"


class DriftParams(StrictModel):
    """When `reprise drift` and a gated refresh call new images different. No stage reads it."""

    level: Annotated[
        float,
        Field(ge=0.001, le=0.5),  # it sets the number of divisions, and so the time
        meaning("All tests together call images of one distribution different at most this often (Holm)."),
    ] = 0.01
    most: Annotated[
        int,
        Field(ge=20, le=5000),
        meaning("So many images of each side are compared; of more, these are drawn.", "images"),
    ] = 2000
    fewest: Annotated[
        int,
        Field(ge=2, le=5000),
        meaning("Fewer new images than this are not judged, because little can be told from them.", "images"),
    ] = 30
    classes: Annotated[
        float,
        Field(ge=0, le=1),
        meaning("Smaller differences of the class shares do not count (total variation distance)."),
    ] = 0.1
    sizes: Annotated[
        float,
        Field(ge=0, le=1),
        meaning("Smaller differences of area or aspect do not count (Kolmogorov and Smirnov's distance)."),
    ] = 0.2
    light: Annotated[
        float,
        Field(ge=0, le=1),
        meaning("Smaller differences of brightness, contrast or colour do not count (the same distance)."),
    ] = 0.2
    discrepancy: Annotated[
        float,
        Field(ge=0, le=2),
        meaning("Smaller differences of the embeddings do not count (squared maximum mean discrepancy)."),
    ] = 0.01
    classified: Annotated[
        float,
        Field(ge=0.5, le=1),
        meaning("A classifier that tells new from old embeddings less well does not count (area under its curve)."),
    ] = 0.65


def drift_params(raw: dict[str, Any]) -> DriftParams:
    """Return the section `drift` of params.yaml, or its defaults where there is none."""
    return parse(DriftParams, raw.get(SECTION) or {}, SECTION)
