"""Parameters of sharding: the block `shard` of params.yaml."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from reprise.config.params import StrictModel, meaning

SECTION = "shard"


class ShardParams(StrictModel):
    """How images are packed."""

    max_shard_bytes: Annotated[
        int,
        Field(ge=1 << 20, le=1 << 32),
        meaning("A tar file is at most this large, unless it holds a single image.", "bytes"),
    ] = 64 << 20
    max_side: Annotated[
        int,
        Field(ge=8, le=8192),
        meaning("Images with a longer side are scaled down to it and stored without loss.", "pixels"),
    ] = 512
