"""Rows of length one (l2-normalised), in NumPy; tensors take `torch.nn.functional.normalize`.

Legend: n rows, d dimensions.
"""

from __future__ import annotations

import numpy as np

ROWS = 1 << 16  # normalised together, so that copies in float64 stay small


def unit(x: np.ndarray, dtype: type[np.floating] = np.float64) -> np.ndarray:
    """Scale each row to length one, in float64; a row of zeros stays zero.

    Args:
        x: (n, d) numbers.
        dtype: of the result.

    Returns:
        (n, d) of `dtype`.
    """
    x = np.asarray(x)
    scaled = np.empty_like(x, dtype=dtype)
    for start in range(0, len(x), ROWS):
        rows = np.asarray(x[start : start + ROWS], dtype=np.float64)
        length = np.linalg.norm(rows, axis=1, keepdims=True)
        scaled[start : start + ROWS] = rows / np.where(length > 0, length, 1.0)
    return scaled
