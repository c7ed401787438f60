"""Typed parameters of embedding."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from reprise.config.params import StrictModel, meaning
from reprise.runtime.memory import evaluation_batch

SECTION = "embed"
BAG_AREA = 0.25  # of the patches that `emp_ssl` is trained on


class EmbedParams(StrictModel):
    """How the trained backbones embed all images."""

    batch_size: Annotated[
        Annotated[int, Field(ge=1, le=65536)] | None,
        meaning(
            "The backbone sees this many images at a time; embeddings depend on it in their last bits only. null takes "
            "512 of up to 32 pixels and fewer of larger ones (128 of 64, 227 of 96, 41 of 224); on a GPU, 512 of up to "
            "224 pixels.",
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
    two_passes: Annotated[  # part of the work's inputs only where it is set
        bool,
        Field(exclude_if=lambda value: not value),
        meaning(
            "Two changed copies of each image are embedded too, for label sets with `confidence: two_views`; embedding "
            "then takes three times as long."
        ),
    ] = False
    bag: Annotated[  # this and the next are part of the work's inputs only where they are set
        Annotated[int, Field(ge=1, le=1024)] | None,
        Field(exclude_if=lambda value: value is None),
        meaning(
            "An image is embedded as the mean of so many patches in place of the whole, for backbones that were "
            "trained on crops of one area (`emp_ssl`); null embeds the whole.",
            "patches",
        ),
    ] = None
    bag_area: Annotated[
        float,
        Field(gt=0, le=1, exclude_if=lambda value: value == BAG_AREA),
        meaning("Each patch of a bag covers this share of the image's area."),
    ] = BAG_AREA
    units: Annotated[
        bool,
        Field(exclude_if=lambda value: not value),
        meaning(
            "The largest response of each unit of the backbone's map, and where it lies, are embedded too (the tap "
            "`units`), for the miner `patterns`; the backbone passes every image twice."
        ),
    ] = False
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

    @model_validator(mode="after")
    def _whole_images_have_places(self) -> Self:
        if self.units and self.bag is not None:
            raise ValueError("units have places in whole images: set `bag` to null, or `units` to false")
        return self

    def images_at_a_time(self, side: int, device: str) -> int:
        """Return how many images of this side (pixels) the backbone sees at a time."""
        return self.batch_size or evaluation_batch(side, device)
