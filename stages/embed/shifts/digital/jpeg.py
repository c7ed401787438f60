"""JPEG: the image is stored with loss and read again.

Source: Hendrycks and Dietterich 2019, with Pillow, as theirs. Bands of images that are neither grey nor colour are
stored one by one.

Checked by: tests/stages/embed/test_shifts.py.
"""

from __future__ import annotations

import numpy as np

from reprise.media.image.encode import through_jpeg
from stages.embed.corruption import Corruption, strength

SMALL = (80, 65, 58, 50, 40)  # Pillow's quality
LARGE = (25, 18, 15, 10, 7)


class Jpeg(Corruption):
    """Stores with loss."""

    def apply(self, pixels: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
        """Encode and decode."""
        return through_jpeg(pixels, round(strength(SMALL, LARGE, severity, pixels.shape[0])))
