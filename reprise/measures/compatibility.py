"""May a new model's queries be answered from a gallery that an old model embedded?

Source: Biondi et al. 2023/2024 (CL2R; stationary representations). `c_VV[i][j]` is the score of queries by version i on
the gallery of version j, versions in the order of time; the diagonal is each version on itself.
"""

from __future__ import annotations

import numpy as np

from reprise.measures.unit_vectors import unit

_BLOCK = 1024  # queries at a time


def average_compatibility(c_VV: np.ndarray) -> float:
    """AC: share of pairs i > j in which new queries on the old gallery beat the old model on itself, strictly.

    Raises:
        ValueError: fewer than two versions, or not a square.
    """
    c = _square(c_VV)
    new, old = np.tril_indices(len(c), -1)
    return float((c[new, old] > c[old, old]).mean())


def average_matrix(c_VV: np.ndarray) -> float:
    """AM: mean of the lower triangle with the diagonal, cells of 0 left out as in the authors' code; 0 if all are."""
    lower = _square(c_VV)[np.tril_indices(len(c_VV))]
    return float(lower[lower != 0].mean()) if (lower != 0).any() else 0.0


def _square(c_VV: np.ndarray) -> np.ndarray:
    c = np.asarray(c_VV, dtype=np.float64)
    if c.ndim != 2 or c.shape[0] != c.shape[1] or len(c) < 2:
        raise ValueError(f"a compatibility matrix is square, of two versions or more, got {c.shape}")
    return c


def nearest_example(queries_QD: np.ndarray, gallery_ND: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(q,) label of the most similar gallery row by cosine; the lowest row on ties."""
    queries, gallery = unit(queries_QD), unit(gallery_ND)
    blocks = [(queries[i : i + _BLOCK] @ gallery.T).argmax(axis=1) for i in range(0, len(queries), _BLOCK)]
    return np.asarray(labels)[np.concatenate(blocks)]


def nearest_mean(queries_QD: np.ndarray, gallery_ND: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(q,) class whose mean normalised gallery feature is most similar by cosine: the "1:N search" of that code."""
    names, index = np.unique(labels, return_inverse=True)
    gallery = unit(gallery_ND)
    sums = np.zeros((len(names), gallery.shape[1]))
    np.add.at(sums, index, gallery)
    return np.asarray(names[(unit(queries_QD) @ unit(sums).T).argmax(axis=1)])
