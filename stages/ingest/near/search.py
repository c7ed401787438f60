"""Find near-copies among sketches: candidates, their exact distances, and the limit that suits the data set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reprise.storage.progress import track
from stages.ingest.near.candidates import Sketches, candidate_pairs
from stages.ingest.near.limit import COPY, copy_limit
from stages.ingest.near.spectrum import HALF_STEPS, closest, coefficients, detail

_FAINT = 500.0  # strength below which noise and compression could make the picture
_PLAIN = 3.0  # richness below which there are only edges and gradients, which any picture may have
_RICH = 8.0  # richness from which the limit holds in full
_ASPECT = 0.08  # by which the aspects of copies may differ
_SMALLEST = 8  # pixels of the shorter side
_ROUGH = 0.1  # distance at whole pixels beyond which half pixels do not help
_BLOCK = 4096
_DRAWN = 2000


@dataclass(frozen=True)
class Found:
    """Near-copies.

    Attributes:
        pairs: (p, 2) places of the images, the lower first, sorted.
        distances: (p,) of each pair.
        limit: the largest distance that counts as a copy here.
        alike: pairs within COPY that do not count, because too many images of the data set are as near by chance.
        unrecognisable: images with too little in them to be told from others: flat, plain or tiny ones.
    """

    pairs: np.ndarray
    distances: np.ndarray
    limit: float
    alike: int
    unrecognisable: int


def find_near_copies(sketches: Sketches, sizes: np.ndarray, groups: np.ndarray) -> Found:
    """Find all pairs of near-copies.

    Args:
        sketches: reads the sketches of given places, (n, S, S) uint8.
        sizes: (n, 2) width and height of every image, in an order that says nothing of what they show.
        groups: (n,) number of the group of each image, -1 for none; images of one group are not compared.
    """
    richness = _richness(sketches, sizes)
    rows = np.flatnonzero(richness >= _PLAIN)
    limit = copy_limit(sketches(rows[:_DRAWN]), groups[rows[:_DRAWN]], len(rows))
    pairs = candidate_pairs(sketches, rows, groups[rows])
    pairs = pairs[_same_aspect(sizes[pairs[:, 0]], sizes[pairs[:, 1]])]
    distances = _closest(sketches, pairs)
    strict = COPY * np.minimum(1.0, richness[pairs].min(axis=1, initial=_RICH) / _RICH)  # of little, more must agree
    near, alike = distances <= np.minimum(limit, strict), distances <= strict
    return Found(pairs[near], distances[near], limit, int((alike & ~near).sum()), len(sizes) - len(rows))


def _richness(sketches: Sketches, sizes: np.ndarray) -> np.ndarray:
    """Return the richness of every image, 0 where it is faint or tiny."""
    found = np.zeros(len(sizes))
    for start in track(range(0, len(sizes), _BLOCK), "look at sketches", unit="blocks"):
        places = np.arange(start, min(start + _BLOCK, len(sizes)))
        strength, richness = detail(coefficients(sketches(places)))
        found[places] = np.where((strength >= _FAINT) & (sizes[places].min(axis=1) >= _SMALLEST), richness, 0.0)
    return found


def _same_aspect(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    one, other = a[:, 0] * b[:, 1], b[:, 0] * a[:, 1]
    return np.abs(one - other) <= _ASPECT * np.minimum(one, other)


def _closest(sketches: Sketches, pairs: np.ndarray) -> np.ndarray:
    distances = np.empty(len(pairs))
    for start in track(range(0, len(pairs), _BLOCK), "compare near-copies", unit="blocks"):
        block = pairs[start : start + _BLOCK]
        a, b = sketches(block[:, 0]), sketches(block[:, 1])
        found = closest(a, b, HALF_STEPS[::2])
        near = np.flatnonzero(found <= _ROUGH)
        found[near] = closest(a[near], b[near], HALF_STEPS)
        distances[start : start + len(block)] = found
    return distances
