"""Which images of a global batch one process embeds.

The order of the images, and whatever is drawn for them, is that of one process. Each micro-batch is shared out by
itself, so that its parts belong together in every process.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reprise.runtime.world import ALONE, World
from reprise.training.batches import bounds


@dataclass(frozen=True)
class Share:
    """The share of one process.

    Attributes:
        world: the processes that hold a batch together.
        micro_batches: that a batch is cut into.
    """

    world: World = ALONE
    micro_batches: int = 1

    def positions(self, images: int) -> np.ndarray | None:
        """Return the positions (int64, rising) of this process's images in a batch of so many; None for all."""
        if self.world.size == 1:
            return None
        parts = []
        for number in range(self.micro_batches):
            first, end = bounds(images, number, self.micro_batches)
            own = self.world.own(end - first)
            parts.append(np.arange(first + own.start, first + own.stop))
        return np.concatenate(parts)

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Return this process's rows of a batch."""
        own = self.positions(len(rows))
        return rows if own is None else rows[own]


WHOLE = Share()
