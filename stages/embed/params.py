"""Typed parameters of embedding."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from stages.contracts.params import StrictModel

SECTION = "embed"


class EmbedParams(StrictModel):
    """batch_size: images at a time; the result does not depend on it beyond the last bits."""

    batch_size: Annotated[int, Field(ge=1, le=65536)] = 512
    device: Literal["auto", "cpu", "cuda"] = "auto"
