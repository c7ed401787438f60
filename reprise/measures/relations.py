"""Do the leading directions of a representation follow a relation between examples (same image, same class)?

Source: Balestriero and LeCun 2022 ("Contrastive and non-contrastive self-supervised learning recover global and local
spectral embedding methods"): trained on a relation, a VICReg-like loss has its optimum where the features span the
smoothest eigenvectors of the relation's graph. For a relation that is "same group", those are the vectors that are
constant within groups. So the alignment is the overlap of two subspaces: the leading directions of the centred features
and the centred group indicators. Only subspaces are compared: eigenvectors of equal eigenvalues are not determined.

Legend: `x_ND` features (n, d); k directions; r the rank of the relation, groups - 1.
"""

from __future__ import annotations

import numpy as np


def leading_directions(x_ND: np.ndarray, k: int) -> np.ndarray:
    """Return (n, at most k) orthonormal columns: the first left singular vectors of the centred features."""
    x = np.asarray(x_ND, dtype=np.float64)
    x = x - x.mean(axis=0)
    values, vectors = np.linalg.eigh(x.T @ x)
    values, vectors = values[::-1], vectors[:, ::-1]
    kept = min(k, int((values > 1e-10 * max(float(values[0]), 1e-300)).sum())) if float(values[0]) > 0 else 0
    u = x @ vectors[:, :kept] / np.sqrt(values[:kept])
    return np.asarray(np.linalg.qr(u)[0]) if kept else np.zeros((len(x), 0))


def captured(directions_NK: np.ndarray, groups: np.ndarray) -> float:
    """Sum the squared cosines between (n, k) orthonormal centred directions and the groups' centred indicators."""
    _, index, counts = np.unique(groups, return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), directions_NK.shape[1]))
    np.add.at(sums, index, directions_NK)
    return float((sums**2 / counts[:, None]).sum())


def relation_alignment(x_ND: np.ndarray, groups: np.ndarray, k: int) -> tuple[float, int]:
    """Return how much of the k leading directions lies in the relation: 0 as random directions, 1 as at the optimum.

    Args:
        x_ND: features.
        groups: (n,) integers; two examples are related when theirs are equal.
        k: number of directions.

    Returns:
        (captured - expected) / (most - expected) and the directions used: random directions capture k r / (n - 1) in
        the mean, and no k directions capture more than min(k, r).

    Raises:
        ValueError: one group only, every example a group of its own, or features that are all equal.
    """
    n, r = len(groups), len(np.unique(groups)) - 1
    if r < 1 or r == n - 1:
        raise ValueError("a relation needs two groups or more, and one with two examples or more")
    directions = leading_directions(x_ND, k)
    used = directions.shape[1]
    if used == 0:
        raise ValueError("all features are equal")
    if used == n - 1:
        raise ValueError("as many directions as examples hold every relation")
    expected, most = used * r / (n - 1), min(used, r)
    return (captured(directions, groups) - expected) / (most - expected), used
