"""Defocus blur: each point becomes a disk, as out of the plane of focus.

Source: Hendrycks and Dietterich 2019. Deviation: the disk is antialiased by bilinear weights, not by a Gaussian. At 32
pixels their disks are single pixels or small crosses; the radii here give the kernel the spread that theirs has.

Checked by: tests/stages/embed/test_shifts.py.
"""

from __future__ import annotations

import numpy as np

from reprise.media.image.transform import correlate
from stages.embed.corruption import Corruption, as_pixels, as_unit, length, spread

SMALL = (0.2, 0.5, 0.8, 1.0, 1.4)  # radius in pixels
LARGE = (3.0, 4.0, 6.0, 8.0, 10.0)
_FINE = 16  # points a radius


class DefocusBlur(Corruption):
    """Averages over a disk."""

    def apply(self, pixels: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
        """Blur with the disk of the severity."""
        return as_pixels(correlate(as_unit(pixels), disk(length(SMALL, LARGE, severity, pixels.shape[0]))))


def disk(radius: float) -> np.ndarray:
    """Weigh the pixels around a point by how much of a disk about it lies nearest to them: (k, k) with sum 1, k odd."""
    steps = np.arange(-_FINE, _FINE + 1) / _FINE
    x, y = (axis.ravel() for axis in np.meshgrid(steps, steps))
    inside = x**2 + y**2 <= 1 + 1e-9
    return spread(x[inside] * radius, y[inside] * radius, np.ones(int(inside.sum())))
