"""A share of the images, for learning curves over their number. Smaller shares are part of larger ones."""

from __future__ import annotations

import hashlib

import numpy as np


def images_in(share: float, images: int) -> int:
    """Return how many images a share of them is: rounded, and at least one.

    Args:
        share: in (0, 1].
        images: all of them.
    """
    return max(1, round(share * images))


def positions_in(share: float, keys: np.ndarray) -> np.ndarray:
    """Choose a share of the images: those with the lowest hashes of their keys, whatever the order or the seed.

    Args:
        share: in (0, 1].
        keys: (n,) strings, all different.

    Returns:
        (images_in(share, n),) int64, rising.
    """
    hashes = [hashlib.sha256(f"share {key}".encode()).digest() for key in keys.tolist()]
    chosen = sorted(range(len(keys)), key=hashes.__getitem__)[: images_in(share, len(keys))]
    return np.sort(np.array(chosen, dtype=np.int64))
