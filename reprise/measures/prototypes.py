"""Class means of unit features, and the class whose mean is nearest. Cosine similarity; ties go to the lowest class.

Legend: n examples, d dimensions, c classes that occur, q queries.
"""

from __future__ import annotations

import numpy as np

from reprise.measures.unit_vectors import unit


def class_means(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the (c,) classes that occur, increasing, and the (c, d) means of their unit rows, scaled to length one.

    Args:
        x: (n, d) features.
        y: (n,) labels.
    """
    names, index = np.unique(y, return_inverse=True)
    sums = np.zeros((len(names), x.shape[1]))
    np.add.at(sums, index, unit(x))
    return names, unit(sums)


def nearest(queries: np.ndarray, means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the (q,) index of the nearest of (c, d) unit means, and the cosine similarity to it."""
    similarity = unit(queries) @ means.T
    best = similarity.argmax(axis=1)
    return best, similarity[np.arange(len(best)), best]
