"""Motion blur: each point becomes a line that fades, as the camera moves.

Source: Hendrycks and Dietterich 2019, who use ImageMagick's motion blur: a half-Gaussian along a direction between
-45 and 45 degrees. Deviation: points between pixels are interpolated.

Checked by: tests/stages/embed/test_shifts.py.
"""

from __future__ import annotations

import numpy as np

from reprise.media.image.transform import correlate
from stages.embed.corruption import Corruption, as_pixels, as_unit, length, spread

SMALL = ((6.0, 6.0, 6.0, 8.0, 9.0), (1.0, 1.5, 2.0, 2.0, 2.5))  # radius and standard deviation in pixels
LARGE = ((10.0, 15.0, 15.0, 15.0, 20.0), (3.0, 5.0, 8.0, 12.0, 15.0))
_FINE = 4  # points a pixel of the line


class MotionBlur(Corruption):
    """Averages along a line."""

    def apply(self, pixels: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
        """Blur along the image's own direction."""
        angle = np.deg2rad(rng.uniform(-45.0, 45.0))
        radius, deviation = (length(SMALL[i], LARGE[i], severity, pixels.shape[0]) for i in (0, 1))
        return as_pixels(correlate(as_unit(pixels), line(2 * radius, deviation, angle)))


def line(extent: float, deviation: float, angle: float) -> np.ndarray:
    """Weigh the pixels along a line that begins at the centre: (k, k) with sum 1, k odd.

    Args:
        extent: length of the line in pixels.
        deviation: standard deviation of the Gaussian whose half fades along the line, in pixels.
        angle: in radians.
    """
    along = np.arange(0.0, extent + 1e-9, 1.0 / _FINE)
    return spread(along * np.cos(angle), along * np.sin(angle), np.exp(-(along**2) / (2 * deviation**2)))
