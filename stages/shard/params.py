"""Parameters of sharding: the block `shard` of params.yaml."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from reprise.config.params import meaning
from reprise.config.shared_sections import StoredParams

SECTION = "shard"


class ShardParams(StoredParams):
    """How images are packed."""

    max_shard_bytes: Annotated[
        int,
        Field(ge=1 << 20, le=1 << 32),
        meaning("A tar file is at most this large, unless it holds a single image.", "bytes"),
    ] = 64 << 20
