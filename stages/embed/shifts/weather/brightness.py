"""Brightness: the value of each pixel rises, and hue and saturation stay (the cone of hue, saturation and value).

Source: Hendrycks and Dietterich 2019. Images of other than three bands are treated alike: the value of a pixel is its
largest band.

Checked by: tests/stages/embed/test_shifts.py.
"""

from __future__ import annotations

import numpy as np

from stages.embed.corruption import Corruption, as_pixels, as_unit, strength

SMALL = (0.05, 0.10, 0.15, 0.20, 0.30)  # added to the value, as a share of its range
LARGE = (0.10, 0.20, 0.30, 0.40, 0.50)


class Brightness(Corruption):
    """Adds to the value of each pixel."""

    def apply(self, pixels: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
        """Brighten: bands keep their ratios, and black becomes grey."""
        x = as_unit(pixels)
        value = x.max(axis=2, keepdims=True)
        raised = np.minimum(1.0, value + strength(SMALL, LARGE, severity, pixels.shape[0]))
        return as_pixels(np.where(value > 0, x * (raised / np.maximum(value, 1 / 255)), raised))
