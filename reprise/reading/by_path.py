"""Squares of images that another process opens for itself: cheap to send to workers, which decode what they need.

They have the values of `Decoded.squares`. Nothing is cached: of a data set that is shared out, each worker sees a part.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from reprise.artifacts.shards import Shards
from reprise.config.errors import ShardError
from reprise.reading.decoded import open_decoded


@dataclass(frozen=True)
class SquaresByPath:
    """Squares of the rows of a split, or of all rows of the shards.

    Attributes:
        split: None takes all rows.
        channels: bands.
        size: side in pixels.
        shards: the content of the index of the shards, which must be the same where they are opened.
        threads: images decoded at the same time.
        preparation: `crop_pct`, `interpolation` and `crop_mode` of a backbone's configuration.
    """

    split: str | None
    channels: int
    size: int
    shards: str
    threads: int = 1
    preparation: tuple[tuple[str, Any], ...] = field(default=())

    def open(self) -> np.ndarray:
        """Open the shards of this folder: (n, S, S, C) uint8, decoded when they are read.

        Raises:
            ShardError: they are others.
        """
        shards = Shards.open()
        if shards.fingerprint != self.shards:
            raise ShardError(
                "a Dask worker reads other shards than the stage",
                where=shards.directory,
                found=f"an index with the hash {shards.fingerprint[:12]}, not {self.shards[:12]}",
                fix="Let all machines see the same folder of the project.",
            )
        rows = shards.rows() if self.split is None else shards.rows(self.split)
        decoded = open_decoded(shards, rows, self.channels, max_bytes=0, threads=self.threads, at_once=False)
        return decoded.squares(self.size, **dict(self.preparation))
