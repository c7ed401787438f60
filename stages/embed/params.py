"""Typed parameters of embedding."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from reprise.config.params import StrictModel

SECTION = "embed"


class EmbedParams(StrictModel):
    """batch_size: images at a time; the result does not depend on it beyond the last bits.

    augmented: images of which changed copies are embedded as well, for the invariance probes; 0 for none.
    """

    batch_size: Annotated[int, Field(ge=1, le=65536)] = 512
    augmented: Annotated[int, Field(ge=0, le=100_000)] = 256
    device: Literal["auto", "cpu", "cuda"] = "auto"
