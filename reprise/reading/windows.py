"""Orders that go through whole shards, a few at a time, for sets of which not all shards lie on this machine.

An epoch takes the tars in random order and cuts them into windows of up to a stated number of bytes. Images are
shuffled within a window, and every image comes once an epoch. So while one window is trained on, the tars of the next
can be fetched, and those of the last are no longer needed. Batches are those of an epoch without windows in number and
sizes; at most one batch holds images of two windows that follow each other (of more, where a window has fewer images
than a batch).

Guided batches keep clusters apart within each window: a cluster of which c images lie in a window of k batches has
floor(c / k) or ceil(c / k) of them in each. Images that are alike often lie in one tar, so with windows they meet more
often than over the whole set; `conflicts` (reprise/reading/order.py) counts them.

The order is a pure function of the generators, the index of the shards and the limit: it does not depend on where the
tars lie. One window that holds everything gives the order of an epoch without windows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reprise.artifacts.labels.label_sets import NO_LABEL
from reprise.reading.order import OneByOne, batch_count, global_batches, rank_batches, spread


@dataclass(frozen=True)
class Windows:
    """The tars of the images of a training.

    Attributes:
        tar: (n,) int64, the number of each image's tar.
        sizes: (t,) int64, bytes of each tar.
        limit: bytes of the tars of a window, at most; a larger tar is a window by itself.
    """

    tar: np.ndarray
    sizes: np.ndarray
    limit: int

    def draw(self, rng: np.random.Generator) -> list[np.ndarray]:
        """Draw the windows of one epoch.

        Returns:
            The positions of the images of each window, rising; each image once.
        """
        window_of = np.zeros(len(self.sizes), np.int64)
        number, held = 0, 0
        for tar in rng.permutation(np.unique(self.tar)).tolist():
            if held and held + self.sizes[tar] > self.limit:
                number, held = number + 1, 0
            window_of[tar], held = number, held + int(self.sizes[tar])
        window = window_of[self.tar]
        by_window = np.argsort(window, kind="stable")
        return np.split(by_window, np.cumsum(np.bincount(window, minlength=number + 1))[:-1])


def windowed_batches(
    sampling: OneByOne, clusters: np.ndarray, batch_size: int, windows: list[np.ndarray], rng: np.random.Generator
) -> list[np.ndarray]:
    """Draw the global batches of one epoch, window after window.

    Args:
        sampling, clusters, batch_size, rng: as for `global_batches`.
        windows: positions of images, each image once.

    Returns:
        m arrays of image positions (int64), each image once, sizes differing by at most one.
    """
    if len(windows) <= 1:
        return global_batches(sampling, clusters, batch_size, rng)
    m = batch_count(len(clusters), batch_size)
    if sampling == "guided":
        sizes = [len(part) for part in np.array_split(np.arange(len(clusters)), m)]
        return _guided(clusters, sizes, windows, rng)
    if sampling == "rank":
        ordered = [window[np.concatenate(rank_batches(clusters[window], batch_size, rng))] for window in windows]
    else:
        ordered = [rng.permutation(window) for window in windows]
    return np.array_split(np.concatenate(ordered), m)


def _guided(
    clusters: np.ndarray, sizes: list[int], windows: list[np.ndarray], rng: np.random.Generator
) -> list[np.ndarray]:
    """Guided batches of stated sizes. A batch over the end of a window is filled with images that meet no other."""
    batches: list[np.ndarray] = []
    begun = np.zeros(0, np.int64)  # the batch that the windows so far do not fill
    for window in windows:
        left = window
        if len(begun):
            chosen, left = _apart(clusters, left, sizes[len(batches)] - len(begun), begun, rng)
            begun = np.concatenate([begun, chosen])
            if len(begun) < sizes[len(batches)]:
                continue  # the window has fewer images than were missing
            batches.append(begun)
        filled = np.cumsum([0, *sizes[len(batches) :]])
        k = int(np.searchsorted(filled, len(left), side="right")) - 1  # batches that this window fills by itself
        begun, left = _apart(clusters, left, len(left) - int(filled[k]), np.zeros(0, np.int64), rng)
        if k:
            batches += [left[batch] for batch in spread(clusters[left], k, rng)]
    return batches


def _apart(
    clusters: np.ndarray, pool: np.ndarray, count: int, beside: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Choose images of a pool for a batch that holds others already, so that few of one cluster meet.

    Each cluster gives a first image before any gives a second. The largest give first, which leaves what is easiest to
    keep apart.

    Returns:
        The chosen, at most `count`; and the others.
    """
    shuffled = rng.permutation(pool)
    labels = np.where(clusters[shuffled] == NO_LABEL, -1 - np.arange(len(shuffled)), clusters[shuffled])
    names, group, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    there = clusters[beside]
    held = np.array([(there == name).sum() if name >= 0 else 0 for name in names.tolist()], np.int64)
    by_group = np.argsort(group, kind="stable")
    rank = np.empty(len(shuffled), np.int64)
    rank[by_group] = np.arange(len(shuffled)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    best = np.lexsort((-sizes[group], rank + held[group]))
    return shuffled[best[:count]], shuffled[best[count:]]
