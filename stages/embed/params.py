"""Typed parameters of embedding."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from reprise.config.params import StrictModel, meaning

SECTION = "embed"


class EmbedParams(StrictModel):
    """How the trained backbones embed all images."""

    batch_size: Annotated[
        int,
        Field(ge=1, le=65536),
        meaning(
            "The backbone sees this many images at a time; embeddings depend on it in their last bits only.", "images"
        ),
    ] = 512
    augmented: Annotated[
        int,
        Field(ge=0, le=100_000),
        meaning(
            "Changed copies of this many images are embedded too, for the probes of invariance; 0 for none.", "images"
        ),
    ] = 256
    device: Annotated[
        Literal["auto", "cpu", "cuda"], meaning("Embedding runs here; `auto` takes a GPU where there is one.")
    ] = "auto"
