"""Centred kernel alignment (CKA): how alike two representations of the same examples are, without labels.

It compares row with row; columns may differ in number, order and meaning. It does not change when either representation
is rotated, moved or scaled as a whole.

Legend: `x_ND`, `y_NE` features of the same n examples; computed in float64.
"""

from __future__ import annotations

import numpy as np


def centred(x_ND: np.ndarray) -> np.ndarray:
    """Return the columns with mean 0, float64."""
    x = np.asarray(x_ND, dtype=np.float64)
    return np.asarray(x - x.mean(axis=0))


def linear_cka(x_ND: np.ndarray, y_NE: np.ndarray) -> float:
    """Return linear centred kernel alignment (Kornblith et al. 2019), in [0, 1]; 0 when one of them is constant.

    It is biased upwards when dimensions are many and examples few: see `debiased_cka`.
    """
    x, y = centred(x_ND), centred(y_NE)
    length = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
    return float(np.linalg.norm(y.T @ x) ** 2 / length) if length > 0 else 0.0


def debiased_cka(x_ND: np.ndarray, y_NE: np.ndarray) -> float:
    """Return the same from the unbiased HSIC (Song et al. 2012; Nguyen et al. 2021): about 0 for independent features.

    The result can be slightly negative; it is 0 when one of them has no spread. No (n, n) kernel is needed: in centred
    features the sums over a linear kernel without its diagonal are sums over squared lengths.

    Raises:
        ValueError: fewer than four rows.
    """
    x, y = centred(x_ND), centred(y_NE)
    if len(x) < 4:
        raise ValueError("the unbiased HSIC needs four rows")
    product = _hsic(x, x) * _hsic(y, y)
    return _hsic(x, y) / float(np.sqrt(product)) if product > 0 else 0.0


def _hsic(x: np.ndarray, y: np.ndarray) -> float:
    n = len(x)
    a, b = (x * x).sum(axis=1), (y * y).sum(axis=1)  # the row sums of each kernel without diagonal are -a and -b
    both = float(a @ b)
    inner = float(np.linalg.norm(x.T @ y) ** 2) - both
    return (inner + float(a.sum() * b.sum()) / ((n - 1) * (n - 2)) - 2 * both / (n - 2)) / (n * (n - 3))
