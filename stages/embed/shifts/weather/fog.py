"""Fog: bright clouds of a random height map lie over the image, and its contrast falls.

Source: Hendrycks and Dietterich 2019, whose height map is the diamond-square fractal (Fournier, Fussell and Carpenter
1982). Deviation: the map is as large as the next power of two of the side, at 224 pixels 256 as theirs.

Checked by: tests/stages/embed/test_shifts.py.
"""

from __future__ import annotations

import numpy as np

from stages.embed.corruption import Corruption, as_pixels, as_unit, strength

SMALL = ((0.2, 0.5, 0.75, 1.0, 1.5), (3.0, 3.0, 2.5, 2.0, 1.75))  # amount of fog, and how fast its detail fades
LARGE = ((1.5, 2.0, 2.5, 2.5, 3.0), (2.0, 2.0, 1.7, 1.5, 1.4))


class Fog(Corruption):
    """Adds a height map, and scales the sum back to the image's own range."""

    def apply(self, pixels: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
        """Add fog."""
        x, side = as_unit(pixels), pixels.shape[0]
        amount, fading = (strength(SMALL[i], LARGE[i], severity, side) for i in (0, 1))
        brightest = max(float(x.max()), 1 / 255)  # a black image has fog too
        clouds = height_map(side, fading, rng)[:side, :side, None]
        return as_pixels((x + amount * clouds) * brightest / (brightest + amount))


def height_map(side: int, fading: float, rng: np.random.Generator) -> np.ndarray:
    """Make a fractal height map with values from 0 to 1, which repeats at its borders: (n, n), n >= side.

    Args:
        side: smallest side in pixels; n is the next power of two.
        fading: the random part of each finer level is smaller by this factor.
        rng: random numbers.
    """
    n = 1 << max(1, int(side - 1).bit_length())
    heights = np.zeros((n, n))
    step, roughness = n, 1.0
    while step >= 2:
        half = step // 2
        corners = heights[::step, ::step]
        middle = _mean(corners, np.roll(corners, -1, 0), np.roll(corners, -1, 1), np.roll(corners, (-1, -1), (0, 1)))
        heights[half::step, half::step] = middle + roughness * rng.uniform(-1, 1, middle.shape)
        middles = heights[half::step, half::step]
        beside = _mean(corners, np.roll(corners, -1, 1), middles, np.roll(middles, 1, 0))
        heights[::step, half::step] = beside + roughness * rng.uniform(-1, 1, beside.shape)
        below = _mean(corners, np.roll(corners, -1, 0), middles, np.roll(middles, 1, 1))
        heights[half::step, ::step] = below + roughness * rng.uniform(-1, 1, below.shape)
        step, roughness = half, roughness / fading
    heights -= heights.min()
    return heights / heights.max()


def _mean(*parts: np.ndarray) -> np.ndarray:
    total = parts[0].copy()
    for part in parts[1:]:
        total += part
    return total / len(parts)
