"""Values -> values: volumes scaled with an antialiased triangle. Shapes: (D, H, W, C) uint8, any number of channels."""

from __future__ import annotations

from functools import lru_cache

import numpy as np


def resize(values: np.ndarray, depth: int, height: int, width: int) -> np.ndarray:
    """Scale each axis on its own; where it shrinks, the kernel widens with the scale.

    Args:
        values: (D, H, W, C) uint8.
        depth, height, width: of the result.

    Returns:
        (depth, height, width, C) uint8.
    """
    if values.shape[:3] == (depth, height, width):
        return values
    result = values.astype(np.float32)
    for axis, side in enumerate((depth, height, width)):
        if result.shape[axis] != side:
            weights = _weights(result.shape[axis], side)
            result = np.moveaxis(np.tensordot(weights, result, (1, axis)), 0, axis)
    return np.floor(np.clip(result, 0.0, 255.0) + np.float32(0.5)).astype(np.uint8)


def resize_to_cube(values: np.ndarray, size: int) -> np.ndarray:
    """Bring a volume to the form that networks see: (size, size, size, C) uint8.

    The whole volume is kept, and each side is scaled on its own: organs and grids rarely leave room at their borders.
    """
    return resize(values, size, size, size)


@lru_cache(maxsize=64)
def _weights(size_in: int, size_out: int) -> np.ndarray:
    """Compute the weights of the triangle: (size_out, size_in) float32; rows sum to 1."""
    scale = size_in / size_out
    centre = (np.arange(size_out) + 0.5)[:, None] * scale
    weight = np.maximum(0.0, 1.0 - np.abs(np.arange(size_in) + 0.5 - centre) / max(scale, 1.0))
    return (weight / weight.sum(axis=1, keepdims=True)).astype(np.float32)
