"""Rank a gallery for queries, and judge rankings by average precision.

Cosine similarity. Ties: equal similarities (as float32, computed in float64) go to the lowest row of the gallery, so a
gallery in an order of chance (keys are hashes) favours nobody.

Legend: q queries, n rows of the gallery, d dimensions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from reprise.measures.nearest.neighbours import unit_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

CELLS = 1 << 22  # similarities held at once


def rankings(
    queries: np.ndarray, gallery: np.ndarray, cells: int = CELLS, device: str = "cpu"
) -> Iterator[tuple[slice, np.ndarray]]:
    """Rank all rows of the gallery for each query, from the most to the least similar, a block of queries at a time.

    Args:
        queries: (q, d).
        gallery: (n, d), n at least 1.
        cells: similarities held at once.
        device: where they are computed, `cpu` or `cuda`.

    Yields:
        rows of `queries` as a slice; (b, n) int64.
    """
    asked, rows = unit_rows(queries).to(device), unit_rows(gallery).to(device)
    step = max(1, cells // len(rows))
    for start in range(0, len(asked), step):
        similarity = (asked[start : start + step] @ rows.T).float()
        order = similarity.sort(dim=1, descending=True, stable=True).indices
        yield slice(start, start + len(order)), order.cpu().numpy()


def average_precision(relevant: np.ndarray, depth: int | None = None) -> np.ndarray:
    """Return the (q,) average precisions of rankings; NaN where nothing is relevant: the query has no right answer.

    Args:
        relevant: (q, n) booleans, best ranked first.
        depth: only the first so many count, and the mean is over min(depth, number relevant): mAP@depth.
    """
    right = relevant.astype(np.float64)
    possible = right.sum(1)
    if depth is not None:
        right, possible = right[:, :depth], np.minimum(possible, depth)
    precision = np.cumsum(right, axis=1) / np.arange(1, right.shape[1] + 1)
    with np.errstate(invalid="ignore"):
        return (precision * right).sum(1) / possible
