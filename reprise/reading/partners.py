"""Batches of pairs as a pure function of (seed, epoch): an image and its partner stand in one batch.

An epoch shows every image that has a partner once as an anchor, in random order, beside one of its partners, all of
them equally likely. So a batch of B images holds B / 2 anchors, and after them their partners in the same order. An
image may come again in an epoch, even in a batch, as the partner of others. Images without a partner are not shown.

Weights do not decide what is drawn, because methods use them in their losses. A pair of weight 0 counts as no pair.

Legend: n images, p pairs, a images with a partner.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from reprise.reading.order import batch_count


@dataclass(frozen=True)
class Partners:
    """The pairs of a label set, each listed from both of its images, sorted by the first and then the second.

    Attributes:
        images: n, images of which some have partners.
        first: (2p,) int64, positions of images.
        second: (2p,) int64, positions of their partners.
        weights: (2p,) float32, above 0.
    """

    images: int
    first: np.ndarray
    second: np.ndarray
    weights: np.ndarray

    @cached_property
    def anchors(self) -> np.ndarray:
        """(a,) int64, the positions of the images that have a partner, in ascending order."""
        return self._by_anchor[0]

    @property
    def shown(self) -> int:
        """Images in an epoch: each anchor and its partner."""
        return 2 * len(self.anchors)

    def batches(self, batch_size: int, rng: np.random.Generator) -> list[np.ndarray]:
        """Draw the batches of one epoch.

        Args:
            batch_size: B, images in a batch at most, an even number.
            rng: of this epoch.

        Returns:
            m = ceil(2a / B) arrays of image positions (int64) of even lengths that differ by at most two; the second
            half of each holds the partners of the first half.
        """
        anchors, starts, degrees = self._by_anchor
        drawn = starts + (rng.random(len(anchors)) * degrees).astype(np.int64)
        order = rng.permutation(len(anchors))
        parts = np.array_split(order, batch_count(self.shown, batch_size))
        return [np.concatenate([anchors[part], self.second[drawn[part]]]) for part in parts]

    def places(self, rows: np.ndarray) -> np.ndarray:
        """Return where each image of a batch has its partner in it: (B,) int64 of a batch from `batches`."""
        return np.roll(np.arange(len(rows)), len(rows) // 2)

    def weights_in(self, rows: np.ndarray) -> np.ndarray:
        """Return the weight of each image's pair: (B,) float32 of a batch from `batches`."""
        here, there = np.split(rows, 2)
        found = np.searchsorted(self._numbers, here * self.images + there)
        return np.tile(self.weights[found], 2)

    @cached_property
    def _by_anchor(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Anchors, where each one's partners begin, and how many it has."""
        return np.unique(self.first, return_index=True, return_counts=True)

    @cached_property
    def _numbers(self) -> np.ndarray:
        """(2p,) one number for each pair and direction, ascending."""
        return self.first * self.images + self.second


def partners_of(pairs: np.ndarray, weights: np.ndarray, images: int) -> Partners:
    """List the partners of each image.

    Args:
        pairs: (p, 2) int64, two different positions each, each pair once.
        weights: (p,) float32 in [0, 1].
        images: n.
    """
    kept = weights > 0
    pairs, weights = pairs[kept], weights[kept]
    first, second = np.concatenate([pairs, pairs[:, ::-1]]).T
    order = np.lexsort((second, first))
    return Partners(images, first[order], second[order], np.tile(weights, 2)[order])
