"""Average precision of scores, with weights, so that it can be drawn again; ridge regression along a path of penalties.

Legend: n examples, b sets of weights, d dimensions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def average_precision(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Area under precision over recall, as a sum over steps; equal scores are one step.

    Args:
        scores: (n,). positive: (n,) booleans. weights: (b, n), how often each example counts; None: once.

    Returns:
        (b,) values, or (1,); NaN where no positive counts.
    """
    order = np.argsort(-scores, kind="stable")
    scores, positive = scores[order], positive[order].astype(np.float64)
    weights = np.ones((1, len(scores))) if weights is None else weights[:, order]
    ends = np.flatnonzero(np.append(np.diff(scores) != 0, True))  # last example of each run of equal scores
    right = np.cumsum(weights * positive, axis=1)[:, ends]
    precision = right / np.maximum(np.cumsum(weights, axis=1)[:, ends], 1e-300)
    gained = np.diff(right, axis=1, prepend=0.0)
    with np.errstate(invalid="ignore"):
        return np.asarray((precision * gained).sum(1) / right[:, -1])


def r_squared(residual: np.ndarray, target: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """(b,) or (1,) shares of the variance of (n,) targets that is explained; NaN where they do not vary."""
    weights = np.ones((1, len(target))) if weights is None else weights
    total = weights.sum(1)
    mean = weights @ target / total
    spread = weights @ (target * target) / total - mean * mean
    with np.errstate(divide="ignore", invalid="ignore"):
        found = 1 - (weights @ (residual * residual) / total) / spread
    return np.where(spread > 1e-12 * np.maximum(1e-300, mean * mean), found, np.nan)


def ridge_path(x: np.ndarray, y: np.ndarray, penalties: Sequence[float]) -> Iterator[tuple[float, np.ndarray, float]]:
    """Ridge regression on standardised features, the intercept free: mean squared error + penalty |w|^2.

    Args:
        x: (n, d), n at least 1. y: (n,). penalties: > 0.

    Yields:
        penalty, (d,) weights on the features as they are, intercept.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    mean, std = x.mean(0), x.std(0)
    std = np.where(std <= 1e-9 * np.abs(x).max(0), 1.0, std)
    standard = (x - mean) / std
    eigenvalues, axes = np.linalg.eigh(standard.T @ standard / len(x))
    projected = axes.T @ (standard.T @ (y - y.mean())) / len(x)
    for penalty in penalties:
        weight = axes @ (projected / (np.maximum(eigenvalues, 0) + penalty)) / std
        yield penalty, weight, float(y.mean() - mean @ weight)
