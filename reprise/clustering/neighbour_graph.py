"""Neighbour graphs of images, exact and in bounded memory (reprise/measures/nearest/neighbours.py).

Legend: n images, d dimensions, k neighbours.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from reprise.measures.nearest.neighbours import top_k


def neighbours(features: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k most similar other images of each, by cosine: rows (n, k) int64 and similarities (n, k) float32.

    Equal similarities go to the lowest row; an image is never its own neighbour, whatever copies of it there are.
    """
    similarity, rows = top_k(features, features, k + 1)
    own = rows == np.arange(len(rows))[:, None]
    own[~own.any(axis=1), -1] = True  # so many copies that it was not among the first: drop the last one instead
    keep = ~own
    return rows[keep].reshape(len(rows), -1), similarity[keep].reshape(len(rows), -1)


def adjacency(rows: np.ndarray, weights: np.ndarray) -> csr_array:
    """(n, n) directed graph: an edge to each neighbour."""
    n, k = rows.shape
    return csr_array((weights.ravel(), (np.repeat(np.arange(n), k), rows.ravel())), shape=(n, n))


def mutual(rows: np.ndarray, similarity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs that are among each other's neighbours: (p, 2) int64, first below second, and similarities (p,)."""
    n, k = rows.shape
    here = np.repeat(np.arange(n), k)
    code, back = here * n + rows.ravel(), rows.ravel() * n + here
    both = np.isin(code, back) & (here < rows.ravel())
    return np.stack([here[both], rows.ravel()[both]], axis=1), similarity.ravel()[both]
