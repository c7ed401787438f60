"""Typed parameters of embedding."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from reprise.config.params import StrictModel, meaning
from reprise.runtime.memory import evaluation_batch

SECTION = "embed"


class EmbedParams(StrictModel):
    """How the trained backbones embed all images."""

    batch_size: Annotated[
        Annotated[int, Field(ge=1, le=65536)] | None,
        meaning(
            "The backbone sees this many images at a time; embeddings depend on it in their last bits only. null takes "
            "512 of up to 64 pixels (on a GPU, 224), and of larger ones as many as have the same number of pixels.",
            "images",
        ),
    ] = None
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
    precision: Annotated[
        Literal["auto", "fp32", "bf16"],
        meaning(
            "The backbone computes in this precision; `auto` takes bf16 where the device multiplies it natively, which "
            "is faster and leaves two to three digits of every feature."
        ),
    ] = "fp32"

    def images_at_a_time(self, side: int, device: str) -> int:
        """Return how many images of this side (pixels) the backbone sees at a time."""
        return self.batch_size or evaluation_batch(side, device)
