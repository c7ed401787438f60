"""Ranking a gallery for queries: average precision, hits, and search by ever longer prefixes of the features.

Cosine similarity. Ties: equal similarities (as float32, computed in float64) go to the lowest row of the gallery, so a
gallery in an order of chance (keys are hashes) favours nobody.

Legend: q queries, n rows of the gallery, d dimensions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from reprise.measures.neighbours import unit_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CELLS = 1 << 22  # similarities held at once


def rankings(
    queries: np.ndarray, gallery: np.ndarray, cells: int = CELLS, device: str = "cpu"
) -> Iterator[tuple[slice, np.ndarray]]:
    """Blocks of queries and, for each query, all rows of the gallery from the most to the least similar.

    Args:
        queries: (q, d). gallery: (n, d), n at least 1.

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
    """Average precision of each ranking; NaN where nothing is relevant, for such a query has no right answer.

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


def hit(relevant: np.ndarray, k: int) -> np.ndarray:
    """(q,) whether one of the first k is relevant: recall@k as metric learning counts it (Song et al. 2016)."""
    return np.asarray(relevant[:, :k].any(axis=1))


def funnel(
    queries: np.ndarray, gallery: np.ndarray, steps: Sequence[tuple[int, int]], cells: int = CELLS
) -> tuple[np.ndarray, int]:
    """Search by prefixes: all rows by the first few dimensions, the best of them again by more, and so on.

    Source: Kusupati et al. 2022 (Matryoshka representation learning), funnel retrieval. Prefixes are brought to length
    one anew.

    Args:
        steps: (dimensions, rows kept), dimensions increasing, rows kept decreasing.

    Returns:
        (q, rows kept by the last step) rows of the gallery, best first; multiplications a query.
    """
    kept, cost = np.empty((len(queries), 0), dtype=np.int64), 0
    for number, (dimensions, asked_for) in enumerate(steps):
        asked, rows = unit_rows(queries[:, :dimensions]), unit_rows(gallery[:, :dimensions])
        candidates = len(gallery) if number == 0 else kept.shape[1]
        keep = min(asked_for, candidates)
        cost += candidates * dimensions
        found = np.empty((len(queries), keep), dtype=np.int64)
        step = max(1, cells // (candidates * (1 if number == 0 else dimensions)))
        for start in range(0, len(queries), step):
            block = asked[start : start + step]
            if number == 0:
                best = (block @ rows.T).float().sort(dim=1, descending=True, stable=True).indices
                found[start : start + step] = best[:, :keep].numpy()
                continue
            listed = torch.from_numpy(np.sort(kept[start : start + step], axis=1))  # ties go to the lowest row
            similarity = torch.bmm(rows[listed], block[:, :, None])[:, :, 0].float()
            best = similarity.sort(dim=1, descending=True, stable=True).indices[:, :keep]
            found[start : start + step] = listed.gather(1, best).numpy()
        kept = found
    return kept, cost
