"""Parameters of sharding: the block `shard` of params.yaml."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from reprise.config.params import StrictModel

SECTION = "shard"


class ShardParams(StrictModel):
    """Sizes of tars and images.

    Attributes:
        max_shard_bytes: largest tar, in bytes; only a single larger image exceeds it.
        max_side: pixels; images with a longer side are scaled down to it and stored as PNG.
    """

    max_shard_bytes: Annotated[int, Field(ge=1 << 20, le=1 << 32)] = 64 << 20
    max_side: Annotated[int, Field(ge=8, le=8192)] = 512
