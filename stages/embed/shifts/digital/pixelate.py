"""Pixelation: the image is reduced to few pixels, and each of them becomes a square.

Source: Hendrycks and Dietterich 2019.

Checked by: tests/stages/embed/test_shifts.py.
"""

from __future__ import annotations

import numpy as np

from stages.embed.corruption import Corruption, as_pixels, as_unit, strength

SMALL = (0.95, 0.90, 0.85, 0.75, 0.65)  # share of the side that is left
LARGE = (0.60, 0.50, 0.40, 0.30, 0.25)


class Pixelate(Corruption):
    """Reduces by means over areas, and enlarges by repeating."""

    def apply(self, pixels: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
        """Reduce and enlarge."""
        side = pixels.shape[0]
        few = max(1, int(side * strength(SMALL, LARGE, severity, side)))
        weights = areas(side, few)
        reduced = np.einsum("ir,jc,rcb->ijb", weights, weights, as_unit(pixels), optimize=True)
        nearest = (np.arange(side) * 2 + 1) * few // (2 * side)
        return as_pixels(reduced[nearest][:, nearest])


def areas(side: int, few: int) -> np.ndarray:
    """Weigh pixels by how much of each lies in one of `few` equal parts of the side: (few, side), rows with sum 1."""
    edges = np.linspace(0.0, side, few + 1)
    first, last = edges[:-1, None], edges[1:, None]
    pixel = np.arange(side)[None, :]
    covered = np.clip(np.minimum(last, pixel + 1) - np.maximum(first, pixel), 0.0, None)
    return covered / covered.sum(axis=1, keepdims=True)
