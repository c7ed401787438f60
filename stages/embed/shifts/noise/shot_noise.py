"""Shot noise: light comes in grains, and a dark place receives few of them.

Source: Hendrycks and Dietterich 2019. Deviation: strengths between both published sides are interpolated in the
standard deviation (one over the square root of the grains), and values are rounded to 8 bits.

Checked by: tests/stages/embed/test_shifts.py.
"""

from __future__ import annotations

import numpy as np

from stages.embed.corruption import Corruption, as_pixels, as_unit, strength

SMALL = tuple(grains**-0.5 for grains in (500, 250, 100, 75, 50))  # grains of light that make white
LARGE = tuple(grains**-0.5 for grains in (60, 25, 12, 5, 3))


class ShotNoise(Corruption):
    """Draws each value from a Poisson distribution."""

    def apply(self, pixels: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
        """Draw a number of grains for each value."""
        grains = strength(SMALL, LARGE, severity, pixels.shape[0]) ** -2
        return as_pixels(rng.poisson(as_unit(pixels) * grains) / grains)
