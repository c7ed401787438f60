"""The section `representations` of params.yaml: what all pairs of runs and seeds are compared by."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from reprise.config.params import StrictModel, meaning
from reprise.config.texts.text_forms import Name

SECTION = "representations"


class RepresentationsParams(StrictModel):
    """How all runs and seeds are compared with each other."""

    rows: Annotated[
        int,
        Field(ge=50, le=20_000),
        meaning("Runs are compared on at most this many images of train, and as many of the scored split.", "images"),
    ] = 2000
    probes: Annotated[
        dict[Name, dict[str, Any]],
        Field(default_factory=dict),
        meaning("Each comparison that is to be made has a block of parameters here."),
    ]
