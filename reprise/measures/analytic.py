"""Ridge regression that learns batch by batch and never forgets: the weights after any batches are the joint solution.

    joint:   W = (X^T X + gamma I)^-1 X^T Y
    update:  R <- R - R X^T (I + X R X^T)^-1 X R,   W <- W + R X^T (Y - X W),   R = I / gamma at first

Source: G-ACIL (Zhuang et al. 2024), ACIL (Zhuang et al. 2022); the recursion is that of recursive least squares.
Float64 throughout: in float32 the errors of R feed on themselves.

Legend: n examples of a batch, D dimensions, c classes seen so far.
"""

from __future__ import annotations

import numpy as np


def joint(x: np.ndarray, y: np.ndarray, gamma: float) -> np.ndarray:
    """(D, c) ridge weights of all of (n, D) and (n, c) at once."""
    x = np.asarray(x, dtype=np.float64)
    gram = x.T @ x
    gram[np.diag_indices_from(gram)] += gamma
    return np.linalg.solve(gram, x.T @ np.asarray(y, dtype=np.float64))


class IncrementalRidge:
    """Weights (D, c) after the batches so far; c grows when a batch names a new class.

    Args:
        dimensions: D. gamma: > 0.
    """

    def __init__(self, dimensions: int, gamma: float) -> None:
        if gamma <= 0:
            raise ValueError(f"gamma must be above 0, got {gamma}")
        self.inverse = np.eye(dimensions) / gamma
        self.weight = np.zeros((dimensions, 0))
        self.classes = np.zeros(0, dtype=np.int64)

    def update(self, x: np.ndarray, y: np.ndarray) -> None:
        """Learn one batch.

        Args:
            x: (n, D), n at least 1; a batch of at most D rows is cheapest. y: (n,) labels, new ones allowed.
        """
        x = np.asarray(x, dtype=np.float64)
        new = np.setdiff1d(y, self.classes)
        self.classes = np.concatenate([self.classes, new])
        self.weight = np.concatenate([self.weight, np.zeros((len(self.weight), len(new)))], axis=1)
        target = (np.asarray(y)[:, None] == self.classes).astype(np.float64)
        turned = x @ self.inverse
        self.inverse = self.inverse - turned.T @ np.linalg.solve(np.eye(len(x)) + turned @ x.T, turned)
        self.inverse = (self.inverse + self.inverse.T) / 2  # symmetric in exact arithmetic; rounding would build up
        self.weight = self.weight + self.inverse @ (x.T @ (target - x @ self.weight))
