"""How far does a change of the image move its features? The unit is the distance of two different images.

Source: Speicher et al. 2024 ("Understanding the role of invariance in transfer"): mean L2 distance of an image and its
changed copy over the mean L2 distance of random pairs. 0: the change moves nothing (invariant); 1: as far as to another
image. Deviation: their random pairs hold fixed points; here all pairs of two different images are taken. Alignment is
that of Wang and Isola 2020: mean squared distance of the two l2-normalised features.

Legend: `x_ND` features of n images, `y_ND` those of their changed copies.
"""

from __future__ import annotations

import numpy as np

from reprise.measures.unit_vectors import unit

_BLOCK = 512  # rows at a time


def moved(x_ND: np.ndarray, y_ND: np.ndarray) -> np.ndarray:
    """Return the (n,) Euclidean distances of each image's features to its changed copy's; float64."""
    return np.asarray(np.linalg.norm(np.asarray(x_ND, np.float64) - np.asarray(y_ND, np.float64), axis=1))


def apart(x_ND: np.ndarray) -> np.ndarray:
    """Return the (n,) mean distance of each row to all others; float64.

    Raises:
        ValueError: fewer than two rows.
    """
    x = np.asarray(x_ND, dtype=np.float64)
    n = len(x)
    if n < 2:
        raise ValueError("distances between images need two rows")
    x = x - x.mean(axis=0)
    squared = (x * x).sum(axis=1)
    found = np.empty(n)
    for start in range(0, n, _BLOCK):
        rows = slice(start, start + _BLOCK)
        square = np.maximum(squared[rows, None] + squared[None, :] - 2 * x[rows] @ x.T, 0.0)
        square[np.arange(len(square)), np.arange(start, start + len(square))] = 0.0
        found[rows] = np.sqrt(square).sum(axis=1) / (n - 1)
    return found


def normalised_distance(moved_N: np.ndarray, apart_N: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the ratio of means, and (n,) contributions of the images, whose mean is that ratio.

    The contributions are linearised (delta method; the mean over pairs counts twice, as each image is in the pairs of
    all others), so that the spread of their mean is that of the ratio: the bootstrap of them is its interval.

    Raises:
        ValueError: all images have the same features.
    """
    top, bottom = float(moved_N.mean()), float(apart_N.mean())
    if bottom <= 0:
        raise ValueError("all images have the same features")
    ratio = top / bottom
    return ratio, ratio + ((moved_N - top) - ratio * 2 * (apart_N - bottom)) / bottom


def alignment(x_ND: np.ndarray, y_ND: np.ndarray) -> np.ndarray:
    """Return (n,) squared distances of l2-normalised features, in [0, 4]; their mean is Wang and Isola's alignment."""
    return np.asarray(moved(unit(x_ND), unit(y_ND)) ** 2)
