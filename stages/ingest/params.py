"""Parameters of ingest: the block `source` of params.yaml."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from reprise.config.params import StrictModel, meaning, plug_in_name, spelled

SECTION = "source"
_PILLOW_LIMIT = 178_956_970  # pixels; Pillow refuses larger images itself


Root = Annotated[str, Field(max_length=4096), spelled(r"[^\x00]+", "a path has at least one character, and no NUL")]


class SourceParams(StrictModel):
    """Where images come from and which of them are taken in."""

    name: Annotated[str, plug_in_name("sources"), meaning("This source finds the images.")]
    root: Annotated[
        Root, meaning("The source reads this folder or archive; a source inside an installed package needs none.")
    ] = "data/images"
    val_fraction: Annotated[
        float, Field(ge=0, le=0.5), meaning("This share of train becomes val, chosen by the hash of the content.")
    ] = 0.1
    test_fraction: Annotated[
        float,
        Field(ge=0, le=0.5),
        meaning("This share becomes test, chosen by the hash of the content, where the source brings no test split."),
    ] = 0.2
    max_pixels: Annotated[
        int,
        Field(ge=1, le=_PILLOW_LIMIT),
        meaning(
            "Images with more pixels (width x height) are refused, because they may be decompression bombs.", "pixels"
        ),
    ] = 50_000_000
    min_side: Annotated[int, Field(ge=1, le=4096), meaning("Images with a shorter side are refused.", "pixels")] = 4
    options: Annotated[
        dict[str, Any], Field(default_factory=dict), meaning("The parameters of the source itself stand in this block.")
    ]
