"""Parameters of ingest: the block `source` of params.yaml."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from reprise.config.params import StrictModel, plug_in_name, spelled

SECTION = "source"
_PILLOW_LIMIT = 178_956_970  # pixels; Pillow refuses larger images itself


Root = Annotated[str, Field(max_length=4096), spelled(r"[^\x00]+", "a path has at least one character, and no NUL")]


class SourceParams(StrictModel):
    """Where images come from and which of them are taken in.

    Attributes:
        name: a file in stages/ingest/sources.
        root: the folder or archive.
        val_fraction, test_fraction: shares cut off by content hash; the second only where the source has no test split.
        max_pixels: width x height; larger images are refused.
        min_side: pixels; smaller images are refused.
        options: those of the source itself, the class `Params` in its file.
    """

    name: Annotated[str, plug_in_name("sources")]
    root: Root = "data/images"
    val_fraction: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    test_fraction: Annotated[float, Field(ge=0, le=0.5)] = 0.2
    max_pixels: Annotated[int, Field(ge=1, le=_PILLOW_LIMIT)] = 50_000_000
    min_side: Annotated[int, Field(ge=1, le=4096)] = 4
    options: Annotated[dict[str, Any], Field(default_factory=dict)]
