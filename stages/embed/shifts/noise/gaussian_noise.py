"""Gaussian noise, as of a sensor in poor light.

Source: Hendrycks and Dietterich 2019. Deviation: values are rounded to 8 bits, not cut off.

Checked by: tests/stages/embed/test_shifts.py.
"""

from __future__ import annotations

import numpy as np

from stages.embed.corruption import Corruption, as_pixels, as_unit, strength

SMALL = (0.04, 0.06, 0.08, 0.09, 0.10)  # standard deviation, as a share of the range of values
LARGE = (0.08, 0.12, 0.18, 0.26, 0.38)


class GaussianNoise(Corruption):
    """Adds an independent normal number to each value."""

    def apply(self, pixels: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
        """Add noise."""
        noise = rng.standard_normal(pixels.shape)
        return as_pixels(as_unit(pixels) + strength(SMALL, LARGE, severity, pixels.shape[0]) * noise)
