"""A share of the images: for learning curves over their number, and of each class, for few labels."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from reprise.artifacts.tables.columns import Keys


def images_in(share: float, images: int) -> int:
    """Return how many images a share of them is: rounded, and at least one.

    Args:
        share: in (0, 1].
        images: all of them.
    """
    return max(1, round(share * images))


def positions_in(share: float, keys: Keys) -> np.ndarray:
    """Choose a share of the images: those with the lowest hashes of their keys, whatever the order or the seed.

    So smaller shares are part of larger ones.

    Args:
        share: in (0, 1].
        keys: (n,) strings, all different.

    Returns:
        (images_in(share, n),) int64, rising.
    """
    if share == 1:  # the usual case, at any number of images
        return np.arange(len(keys), dtype=np.int64)
    hashes = [hashlib.sha256(f"share {key}".encode()).digest() for key in keys.tolist()]
    chosen = sorted(range(len(keys)), key=hashes.__getitem__)[: images_in(share, len(keys))]
    return np.sort(np.array(chosen, dtype=np.int64))


def drawn_of_each(members: Sequence[np.ndarray], percent: float, rng: np.random.Generator) -> np.ndarray:
    """Draw a share of every class at random, one image of each at least.

    Args:
        members: the rows of each class.
        percent: of each class.
        rng: of the draw.

    Returns:
        Rows, class after class, int64.
    """
    drawn = [rng.choice(rows, max(1, round(percent / 100 * len(rows))), replace=False) for rows in members]
    return np.concatenate(drawn) if drawn else np.zeros(0, np.int64)
