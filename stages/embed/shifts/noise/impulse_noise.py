"""Impulse noise: some values become black or white (salt and pepper), as by broken bits.

Source: Hendrycks and Dietterich 2019.

Checked by: tests/stages/embed/test_shifts.py.
"""

from __future__ import annotations

import numpy as np

from stages.embed.corruption import Corruption, strength

SMALL = (0.01, 0.02, 0.03, 0.05, 0.07)  # share of the values that are replaced
LARGE = (0.03, 0.06, 0.09, 0.17, 0.27)


class ImpulseNoise(Corruption):
    """Replaces values by the smallest or the largest one."""

    def apply(self, pixels: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
        """Replace a share of the values, half of them by white."""
        replaced = rng.random(pixels.shape) < strength(SMALL, LARGE, severity, pixels.shape[0])
        white = rng.random(pixels.shape) < 0.5
        return np.where(replaced, np.where(white, 255, 0), pixels).astype(np.uint8)
