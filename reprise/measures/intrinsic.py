"""How many dimensions do the points really fill, and how close do unlike labels lie?

Two estimates of the dimension from distances to nearest neighbours. Both assume that the density is even within a
neighbourhood. So they see the scale of the nearest neighbours: noise raises them, and in many dimensions (above about
ten at a few thousand points) they fall short. No interval: copies, as a bootstrap draws them, are at distance zero.
Copies in the data are left out for the same reason.

Legend: `x_ND` points (n, d), `t_NK` distances to the k nearest others, increasing.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import pdist

MLE_NEIGHBOURS = 20  # Levina and Bickel 2004 use 10 to 20; Pope et al. 2021 20
KEPT_RATIOS = 0.9  # Facco et al. 2017 leave out the largest tenth
FEWEST = 10  # distinct points below which there is nothing to estimate
_SPARE = 8  # candidates beyond k that are measured exactly
_BLOCK = 512  # rows at a time


def distinct_rows(x_ND: np.ndarray) -> np.ndarray:
    """`x_ND` without repeated rows, in float64; order by value."""
    return np.unique(np.asarray(x_ND, dtype=np.float64), axis=0)


def neighbour_distances(x_ND: np.ndarray, k: int) -> np.ndarray:
    """(n, k) Euclidean distances to the k nearest other rows, increasing; float64, memory bounded by 512 rows.

    Candidates come from a product, their distances from differences, so that close pairs are not lost to rounding.

    Raises:
        ValueError: k < 1 or fewer than k + 1 rows.
    """
    x = np.asarray(x_ND, dtype=np.float64)
    n = len(x)
    if k < 1 or n < k + 1:
        raise ValueError(f"{k} neighbours need more than {k} rows, got {n}")
    centred = x - x.mean(axis=0)
    squared = (centred * centred).sum(axis=1)
    wanted = min(n - 1, k + _SPARE)
    found = np.empty((n, k))
    for start in range(0, n, _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, n))
        rough = squared[None, :] - 2 * centred[rows] @ centred.T  # the row's own length changes no order
        rough[np.arange(len(rows)), rows] = np.inf
        near = np.argpartition(rough, wanted - 1, axis=1)[:, :wanted]
        exact = np.empty((len(rows), wanted))
        for column in range(wanted):
            exact[:, column] = np.linalg.norm(x[rows] - x[near[:, column]], axis=1)
        exact.sort(axis=1)
        found[rows] = exact[:, :k]
    return found


def maximum_likelihood(t_NK: np.ndarray) -> float:
    """Levina and Bickel 2004, the points' estimates averaged as MacKay and Ghahramani 2005 showed: by their inverses.

    1 / d is the mean over points and j < k of log(T_k / T_j).

    Raises:
        ValueError: fewer than two neighbours, or a distance of zero.
    """
    if t_NK.shape[1] < 2 or (t_NK[:, 0] <= 0).any():
        raise ValueError("needs two neighbours or more, none at distance zero")
    inverse = float(np.log(t_NK[:, -1:] / t_NK[:, :-1]).mean())
    return float("inf") if inverse == 0 else 1 / inverse


def two_nn(t_NK: np.ndarray) -> float:
    """Facco et al. 2017: mu = T_2 / T_1 has the distribution 1 - mu^-d; a line through the origin gives d.

    The largest tenth of the ratios is left out, as in the paper: there the assumption fails first.

    Raises:
        ValueError: fewer than two neighbours, or a distance of zero.
    """
    if t_NK.shape[1] < 2 or (t_NK[:, 0] <= 0).any():
        raise ValueError("needs two neighbours or more, none at distance zero")
    n = len(t_NK)
    log_mu = np.sort(np.log(t_NK[:, 1] / t_NK[:, 0]))
    kept = max(1, int(n * KEPT_RATIOS))
    empirical = np.arange(1, n + 1)[:kept] / n
    u, v = log_mu[:kept], -np.log1p(-np.minimum(empirical, 1 - 0.5 / n))
    length = float(u @ u)
    return float("inf") if length == 0 else float(u @ v) / length


def label_sharpness(x_ND: np.ndarray, labels: np.ndarray) -> tuple[float, int]:
    """K_F of Konz and Mazurowski 2024: the largest change of the label over the distance of two points.

    A lower bound of the Lipschitz constant of any function that gives the labels: 1 over the distance of the nearest
    two points of different classes. All pairs are looked at. Distances are in units of the root mean square distance of
    two points, so that the scale of the features does not matter.

    Args:
        labels: (n,) class of each row.

    Returns:
        The sharpness, 0 with one class; and how many pairs of different classes lie at one place. Those are left out:
        no function gives both labels.

    Raises:
        ValueError: fewer than two rows, or all rows (or all unlike pairs) at one place.
    """
    x, y = np.asarray(x_ND, dtype=np.float64), np.asarray(labels)
    if len(x) < 2:
        raise ValueError(f"needs two points or more, got {len(x)}")
    distance = pdist(x)
    scale = float(np.sqrt((distance * distance).mean()))
    first, second = np.triu_indices(len(x), 1)  # the order of pdist
    unlike = distance[y[first] != y[second]]
    apart = unlike[unlike > 0]
    if scale == 0 or (len(unlike) and not len(apart)):
        raise ValueError("points of different classes all lie at one place")
    return (scale / float(apart.min()) if len(apart) else 0.0), len(unlike) - len(apart)
