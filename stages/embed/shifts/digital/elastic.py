"""Elastic distortion: each pixel moves by a smooth random field, as on rubber.

Source: Hendrycks and Dietterich 2019, after Simard et al. 2003. Deviation: their five severities mix large smooth and
small rough fields with an affine part, and differ in kind between 32 and 224 pixels. Here the field has one smoothness,
and its strength rises with the severity; lengths are shares of the side.

Checked by: tests/stages/embed/test_shifts.py.
"""

from __future__ import annotations

import numpy as np

from stages.embed.corruption import Corruption, as_pixels, as_unit, sample

MOVED = (0.010, 0.016, 0.024, 0.034, 0.048)  # standard deviation of the displacement in each direction
SMOOTH = 0.07  # standard deviation of the Gaussian that smooths the field


class Elastic(Corruption):
    """Moves pixels."""

    def apply(self, pixels: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
        """Read the image at displaced positions."""
        from scipy.ndimage import gaussian_filter

        side = pixels.shape[0]
        fields = gaussian_filter(rng.uniform(-1, 1, (2, side, side)), (0, SMOOTH * side, SMOOTH * side), mode="reflect")
        moved = fields / fields.std() * MOVED[severity - 1] * side
        rows, columns = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
        return as_pixels(sample(as_unit(pixels), rows + moved[0], columns + moved[1]))
