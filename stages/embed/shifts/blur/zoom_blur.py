"""Zoom blur: the mean of the image at several scales, as the camera moves towards its subject.

Source: Hendrycks and Dietterich 2019. Deviation: eleven scales at every severity, from 1 to the largest, and the image
itself counts once more, as theirs does.

Checked by: tests/stages/embed/test_shifts.py.
"""

from __future__ import annotations

import numpy as np

from stages.embed.corruption import Corruption, as_pixels, as_unit, sample_grid, strength

SMALL = (1.05, 1.10, 1.15, 1.20, 1.25)  # the largest scale
LARGE = (1.10, 1.15, 1.20, 1.24, 1.30)
SCALES = 11


class ZoomBlur(Corruption):
    """Averages over scales."""

    def apply(self, pixels: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
        """Average the image with itself, enlarged about its centre."""
        x, side = as_unit(pixels), pixels.shape[0]
        centre = (side - 1) / 2
        total = x.copy()
        for scale in np.linspace(1.0, strength(SMALL, LARGE, severity, side), SCALES):
            at = centre + (np.arange(side) - centre) / scale
            total += sample_grid(x, at, at)
        return as_pixels(total / (SCALES + 1))
