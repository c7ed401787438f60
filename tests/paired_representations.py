"""Two representations of the same examples that share a part, for tests of how alike representations are."""

from __future__ import annotations

import numpy as np


def rotation(d: int, seed: int = 9) -> np.ndarray:
    """A random orthogonal matrix, (d, d)."""
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


def paired() -> tuple[np.ndarray, np.ndarray]:
    """(120, 7) and (120, 10): four directions in common, linearly mixed with three and six of their own."""
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(120, 4))
    x = np.hstack([shared, rng.normal(size=(120, 3))]) @ rng.normal(size=(7, 7)) + 5
    y = np.hstack([shared, rng.normal(size=(120, 6))]) @ rng.normal(size=(10, 10)) - 2
    return x, y
