"""Contrast: values move towards the mean of their band.

Source: Hendrycks and Dietterich 2019.

Checked by: tests/stages/embed/test_shifts.py.
"""

from __future__ import annotations

import numpy as np

from stages.embed.corruption import Corruption, as_pixels, as_unit, strength

SMALL = (0.75, 0.50, 0.40, 0.30, 0.15)  # share of the contrast that is left
LARGE = (0.40, 0.30, 0.20, 0.10, 0.05)


class Contrast(Corruption):
    """Lowers the contrast."""

    def apply(self, pixels: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
        """Shrink the distance of each value from the mean."""
        x = as_unit(pixels)
        mean = x.mean(axis=(0, 1), keepdims=True)
        return as_pixels(mean + strength(SMALL, LARGE, severity, pixels.shape[0]) * (x - mean))
