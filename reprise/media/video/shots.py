"""Where a film cuts from one shot to the next: the colours of two frames that follow each other differ much.

The distance of two frames is half the sum of the absolute differences of their histograms of colour (8 x 8 x 8 cells
of RGB, of the frame scaled to 32 x 32 pixels): 0 for the same colours, 1 for no colour in common. A cut lies before a
frame whose distance from the frame before it exceeds the threshold. So motion makes no cut, a flash makes two, and a
fade, which is spread over many frames, makes none. Nothing is learned, and no later frame changes an earlier decision.
"""

from __future__ import annotations

import numpy as np

CELLS = 8  # of each colour


class Shots:
    """Number the shots of one film, frame by frame.

    Args:
        threshold: distance from 0 to 1 above which a new shot begins.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._before: np.ndarray | None = None
        self.number = 0

    def add(self, picture: np.ndarray) -> int:
        """Take the next frame, (h, w, 3) uint8, and return the number of its shot, from 0."""
        now = histogram(picture)
        if self._before is not None and distance(self._before, now) > self._threshold:
            self.number += 1
        self._before = now
        return self.number


def histogram(picture: np.ndarray) -> np.ndarray:
    """Return the shares of colours of (h, w, 3) uint8: (512,) float64 that sum to 1."""
    cells = (picture.astype(np.int64) * CELLS) // 256
    index = (cells[:, :, 0] * CELLS + cells[:, :, 1]) * CELLS + cells[:, :, 2]
    return np.bincount(index.reshape(-1), minlength=CELLS**3) / index.size


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Return half the sum of the absolute differences of two histograms, from 0 to 1."""
    return float(np.abs(one - other).sum() / 2)
