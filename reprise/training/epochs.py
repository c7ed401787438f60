"""What a training goes through: epochs, each a list of global batches. Made from data by the caller, read by `fit`.

An epoch is made once, when it begins, and handed to the loop, which asks it for one batch after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


class Epoch(Protocol):
    """One pass over the samples."""

    @property
    def order(self) -> Sequence[np.ndarray]:
        """The positions (int64) of the samples in each global batch."""
        ...

    def batch(self, number: int) -> Any:
        """Make the batch of `order[number]` on the device, in the form that the step function takes."""
        ...


class Epochs(Protocol):
    """All epochs of a training.

    A training that is resumed asks for the epoch that was interrupted and for the batches that were not yet trained on.
    So both must be pure functions of their numbers where checkpoints are kept.
    """

    @property
    def count(self) -> int:
        """How many epochs there are."""
        ...

    @property
    def batches(self) -> int:
        """How many batches an epoch has; as many in each."""
        ...

    @property
    def samples(self) -> int:
        """How many samples an epoch has, for the progress line."""
        ...

    def epoch(self, number: int) -> Epoch:
        """Make the epoch of this number, counted from 0."""
        ...


@dataclass(frozen=True)
class ShuffledEpoch:
    """One pass over some rows; see ShuffledEpochs."""

    order: list[np.ndarray]
    make: Callable[[np.ndarray], Any]

    def batch(self, number: int) -> Any:
        """Make one batch."""
        return self.make(self.order[number])


@dataclass(frozen=True)
class ShuffledEpochs:
    """Rows in random order, for short trainings: all epochs share one generator, so they cannot be resumed.

    Attributes:
        count: epochs.
        size: rows in a batch.
        rows: (n,) int64, what is trained on.
        make: rows -> batch. It may draw from `rng` too, because epochs and batches are made in order.
        rng: of the order.
        drop_last: leave out the rows that fill no batch, others in each epoch; else the last batch is smaller.
    """

    count: int
    size: int
    rows: np.ndarray
    make: Callable[[np.ndarray], Any]
    rng: np.random.Generator
    drop_last: bool = False

    @property
    def batches(self) -> int:
        """Batches in an epoch."""
        return len(self.rows) // self.size if self.drop_last else -(-len(self.rows) // self.size)

    @property
    def samples(self) -> int:
        """Rows that are trained on in an epoch."""
        return min(len(self.rows), self.batches * self.size)

    def epoch(self, number: int) -> ShuffledEpoch:
        """Draw the order of the next epoch."""
        order = self.rng.permutation(self.rows)
        return ShuffledEpoch(
            [order[start : start + self.size] for start in range(0, self.samples, self.size)], self.make
        )
