"""Ridge regression of several targets at once, for a list of penalties, in closed form.

Legend: n examples, d inputs, t targets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np


def ridge_path(
    x: np.ndarray, y: np.ndarray, penalties: Sequence[float], intercept: bool = True
) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """Minimise the mean over examples of |y - x w - b|^2, plus penalty |w|^2 on standardised inputs.

    Args:
        x: (n, d), n at least 1.
        y: (n, t).
        penalties: above 0.
        intercept: whether there is a b. Without one the inputs are divided by their root mean square alone.

    Yields:
        The penalty, (d, t) weights on the inputs as they are, and (t,) b.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    mean = x.mean(0) if intercept else np.zeros(x.shape[1])
    target = y.mean(0) if intercept else np.zeros(y.shape[1])
    scale = np.sqrt(((x - mean) ** 2).mean(0))
    scale = np.where(scale <= 1e-9 * np.abs(x).max(0), 1.0, scale)
    standard = (x - mean) / scale
    eigenvalues, axes = np.linalg.eigh(standard.T @ standard / len(x))
    projected = axes.T @ (standard.T @ (y - target)) / len(x)
    for penalty in penalties:
        weights = axes @ (projected / (np.maximum(eigenvalues, 0) + penalty)[:, None]) / scale[:, None]
        yield penalty, weights, target - mean @ weights
