"""Typed parameters of embedding."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from reprise.config.params import StrictModel

SECTION = "embed"


class EmbedParams(StrictModel):
    """How embeddings are computed.

    Attributes:
        batch_size: images at a time; the result depends on it in the last bits only.
        augmented: number of images of which changed copies are embedded as well, for the invariance probes; 0 for none.
        device: `auto` takes CUDA where there is a GPU.
    """

    batch_size: Annotated[int, Field(ge=1, le=65536)] = 512
    augmented: Annotated[int, Field(ge=0, le=100_000)] = 256
    device: Literal["auto", "cpu", "cuda"] = "auto"
