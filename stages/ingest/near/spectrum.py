"""Sketches -> coefficients that are alike exactly for images that show the same picture.

The coefficients are the low frequencies of a discrete cosine transform, without the mean. Compared with each other they
are weighted by frequency, which evens out the spectrum of photographs (Field 1987: amplitudes fall as 1 / f): otherwise
every two pictures with a bright sky would be alike. Their cosine ignores brightness and contrast; high frequencies,
which compression and scaling change, are not looked at.

A window of 28 x 28 is taken from the sketch of 32 x 32, so that it can be shifted by up to two pixels without anything
made up at the border. All values are whole numbers below 2**53, so every sum is exact: the same images give the same
pairs on every machine.

Legend: n images, S side of a sketch, c coefficients.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from reprise.media.image.sketch import SIDE

_WINDOW, _BORDER = 28, 2
_LOW = 8  # frequencies each way
_UNIT = 2.0**24  # the coefficients of white noise of one grey level are then about 4
_ONE = 1024  # a cosine of 1, as a whole number
HALF_STEPS = (-2, -1, 0, 1, 2)  # shifts of the window in half pixels of the sketch
_FREQUENCIES = np.arange(_LOW)
_SQUARES = _FREQUENCIES[:, None] ** 2 + _FREQUENCIES[None, :] ** 2
_KEPT = np.flatnonzero((_SQUARES > 0) & (_SQUARES < (_LOW - 0.5) ** 2))
WEIGHTS = _SQUARES.ravel()[_KEPT].astype(np.float64)  # of squared coefficients
COEFFICIENTS = len(_KEPT)


@cache
def _rows(half_steps: int) -> np.ndarray:
    """Return the (_LOW, SIDE) cosines of a window that is shifted by so many half pixels; twice as large as _ONE."""
    x = np.arange(_WINDOW)
    cosines = np.rint(_ONE * np.cos(np.pi * _FREQUENCIES[:, None] * (2 * x + 1) / (2 * _WINDOW)))
    rows = np.zeros((_LOW, SIDE))
    for start in (_BORDER + half_steps // 2, _BORDER + (half_steps + 1) // 2):  # half a pixel: the mean of two windows
        rows[:, start : start + _WINDOW] += cosines
    return rows


def coefficients(sketches: np.ndarray, down: int = 0, right: int = 0) -> np.ndarray:
    """Transform sketches.

    Args:
        sketches: (n, S, S) uint8.
        down, right: shift of the window, in half pixels; of HALF_STEPS.

    Returns:
        (n, c) float64 that hold whole numbers.
    """
    across = sketches.reshape(-1, SIDE).astype(np.float64) @ _rows(right).T
    both = _rows(down) @ across.reshape(-1, SIDE, _LOW)
    return np.rint(both / _UNIT).reshape(-1, _LOW * _LOW)[:, _KEPT]


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return one minus the weighted cosine, row by row: 0 for the same picture, about 1 for different ones.

    Args:
        a, b: (n, c).
    """
    product = (a * b * WEIGHTS).sum(axis=1)
    lengths = (a * a * WEIGHTS).sum(axis=1) * (b * b * WEIGHTS).sum(axis=1)
    return 1.0 - product / np.sqrt(np.maximum(lengths, 1.0))


def closest(a: np.ndarray, b: np.ndarray, steps: tuple[int, ...] = HALF_STEPS) -> np.ndarray:
    """Return the distance of each pair of sketches at the shift at which they are most alike.

    Args:
        a, b: (n, S, S) uint8.
        steps: half pixels by which the window of `b` is shifted, down and to the right.
    """
    fixed = coefficients(a)
    best = np.full(len(a), np.inf)
    for down in steps:
        for right in steps:
            np.minimum(best, distances(fixed, coefficients(b, down, right)), out=best)
    return best


def detail(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Measure how much there is to recognise a picture by.

    Args:
        values: (n, c) coefficients.

    Returns:
        strength: length of the weighted coefficients; about 130 for white noise of one grey level, 5,000 to 30,000 for
            photographs. richness: over how many coefficients it is spread (participation ratio), 1 to c.
    """
    energy = values * values * WEIGHTS
    total = energy.sum(axis=1)
    return np.sqrt(total), total * total / np.maximum((energy * energy).sum(axis=1), 1.0)
