"""How alike are two representations of the same examples? Four answers that need no labels.

All compare row with row; columns may differ in number, order and meaning. CKA, RSA and Procrustes do not change when
either side is rotated, moved or scaled as a whole; mutual neighbours use cosines, so moving a side changes them.

Legend: `x_ND`, `y_NE` features of the same n examples; computed in float64.
"""

from __future__ import annotations

import numpy as np
from scipy import stats


def centred(x_ND: np.ndarray) -> np.ndarray:
    """Columns with mean 0, float64."""
    x = np.asarray(x_ND, dtype=np.float64)
    return np.asarray(x - x.mean(axis=0))


def linear_cka(x_ND: np.ndarray, y_NE: np.ndarray) -> float:
    """Linear centred kernel alignment (Kornblith et al. 2019), in [0, 1]; 0 when a side is constant.

    Biased upwards when dimensions are many and examples few: see `debiased_cka`.
    """
    x, y = centred(x_ND), centred(y_NE)
    length = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
    return float(np.linalg.norm(y.T @ x) ** 2 / length) if length > 0 else 0.0


def debiased_cka(x_ND: np.ndarray, y_NE: np.ndarray) -> float:
    """The same from the unbiased HSIC (Song et al. 2012; Nguyen et al. 2021): about 0 for independent features.

    Can be slightly negative; 0 when a side has no spread. Needs no (n, n) kernel: in centred features the sums over a
    linear kernel without its diagonal are sums over squared lengths.

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


def distance_ranks(x_ND: np.ndarray) -> np.ndarray:
    """Ranks of all n (n - 1) / 2 Euclidean distances, for `rank_correlation`."""
    from scipy.spatial.distance import pdist

    return np.asarray(stats.rankdata(pdist(centred(x_ND))))


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson correlation of two rank vectors (Spearman's rho of what they rank); 0 when one has no spread."""
    a, b = a - a.mean(), b - b.mean()
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / length if length > 0 else 0.0


def rsa(x_ND: np.ndarray, y_NE: np.ndarray) -> float:
    """Representational similarity analysis (Kriegeskorte et al. 2008): Spearman's rho of all pairs' distances."""
    return rank_correlation(distance_ranks(x_ND), distance_ranks(y_NE))


def procrustes(x_ND: np.ndarray, y_NE: np.ndarray) -> float:
    """Orthogonal Procrustes similarity in [0, 1] (Ding et al. 2021, as 1 - half of their squared distance).

    The nuclear norm of Y'X, both centred and scaled to Frobenius norm 1: 1 when one side is a rotation of the other.
    """
    x, y = centred(x_ND), centred(y_NE)
    length = np.linalg.norm(x) * np.linalg.norm(y)
    return float(np.linalg.svd(y.T @ x, compute_uv=False).sum() / length) if length > 0 else 0.0


def mutual_neighbours(a_NK: np.ndarray, b_NK: np.ndarray) -> float:
    """Mean share of neighbours in common (Huh et al. 2024, "mutual kNN"), from (n, k) neighbour rows of each side."""
    n, k = a_NK.shape
    rows = np.repeat(np.arange(n), k)
    size = int(max(a_NK.max(), b_NK.max())) + 1
    return len(np.intersect1d(rows * size + a_NK.ravel(), rows * size + b_NK.ravel())) / (n * k)
