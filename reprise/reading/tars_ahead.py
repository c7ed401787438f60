"""Fetch the tars of the batches to come while the present one is trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from reprise.artifacts.shards import Shards

Order = Sequence[np.ndarray]


@dataclass(frozen=True)
class Schedule:
    """When an epoch needs which tar.

    Attributes:
        tars: (u,) int64, numbers of the tars in the order in which they are first needed.
        last: (u,) int64, the last batch that needs each of them.
        reached: (u + 1,) int64, bytes of the first 0, 1, ... u of them.
        done: (b + 1,) int64, bytes of the tars that no batch from this one on needs.
    """

    tars: np.ndarray
    last: np.ndarray
    reached: np.ndarray
    done: np.ndarray

    @classmethod
    def of(cls, order: Order, tar: np.ndarray, sizes: np.ndarray) -> Schedule:
        """Look through the batches of an epoch.

        Args:
            order: positions of images in each batch.
            tar: (n,) int64, the tar of each position.
            sizes: (t,) int64, bytes of the tars.
        """
        batch = np.repeat(np.arange(len(order)), [len(rows) for rows in order])
        needed = tar[np.concatenate([*order, np.zeros(0, np.int64)])]
        first, last = np.full(len(sizes), len(order)), np.full(len(sizes), -1)
        np.minimum.at(first, needed, batch)
        np.maximum.at(last, needed, batch)
        tars = np.argsort(first, kind="stable")[: int((last >= 0).sum())]
        done = np.zeros(len(order) + 1, np.int64)
        np.add.at(done, last[tars] + 1, sizes[tars])
        return cls(tars, last[tars], np.concatenate([[0], np.cumsum(sizes[tars])]), np.cumsum(done))

    def within(self, number: int, room: int) -> int:
        """Return how many of `tars` may be there at a batch, if those done with before it make room."""
        return int(np.searchsorted(self.reached, room + self.done[number], side="right")) - 1


class TarsAhead:
    """Asks for tars as early as the cache has room for them, in the order in which batches need them.

    Those that no batch needs any more make room first: they were used last, so by their time of use alone the cache
    would rather remove tars that wait for their first use.

    Args:
        shards: of the images.
        rows: (n,) rows of the shards, by position.
        sizes: (t,) int64, bytes of the tars.
        room: bytes of the cache.
    """

    def __init__(self, shards: Shards, rows: np.ndarray, sizes: np.ndarray, room: int) -> None:
        self._shards, self._tar, self._sizes, self._room = shards, shards.of_tar[0][rows], sizes, room
        self._epoch, self._asked, self._number = -1, 0, 0
        self._now: Schedule | None = None
        self._next: Schedule | None = None

    def at(self, epoch: int, number: int, order: Order, following: Callable[[], Order]) -> None:
        """Ask for what is needed from a batch on.

        Args:
            epoch, number: of the batch.
            order: of this epoch.
            following: draws the order of the next one; called once an epoch.
        """
        left_over = np.zeros(0, np.int64)  # tars that the last batches of the epoch before needed
        if self._now is None or epoch != self._epoch:
            asked = self._asked - len(self._now.tars) if self._now is not None and epoch == self._epoch + 1 else 0
            kept = self._next if epoch == self._epoch + 1 else None
            if self._now is not None:
                left_over = self._now.tars[self._now.last >= self._number]
            self._now = kept or Schedule.of(order, self._tar, self._sizes)
            self._next, self._epoch, self._asked, self._number = None, epoch, max(0, asked), 0
        now = self._now
        done = now.tars[(now.last >= self._number) & (now.last < number)]
        self._number = number
        until = now.within(number, self._room)
        needed = now.last[self._asked : until] >= number  # a run that goes on in an epoch needs no others
        wanted = now.tars[self._asked : until][needed].tolist()
        coming = now.tars[now.last >= number]
        if until == len(now.tars):
            if self._next is None:
                self._next = Schedule.of(following(), self._tar, self._sizes)
            left = self._room + int(now.done[number]) - int(now.reached[-1])
            more = self._next.within(0, left)
            wanted += self._next.tars[max(0, self._asked - until) : more].tolist()
            coming = np.concatenate([coming, self._next.tars[:more]])
            until += more
        done = np.setdiff1d(np.concatenate([left_over, done]), coming)
        if len(done):
            self._shards.let_go(done.tolist())
        if wanted:
            self._shards.expect(wanted)
        self._asked = max(self._asked, until)
