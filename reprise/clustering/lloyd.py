"""Lloyd's moves of k-means: early ones on 8-bit integers where that is faster, the last ones exact.

An early move is wrong about images near a border only, and a border that is a little off moves the means little; the
last moves put that right. Where the data are finer than 8 bits can tell, exact moves take over at once. Three things
show it: the loss on a sample of rows at the start, a centre that no row is nearest to, or a move that gains nothing.

Legend: n images, d dimensions, K centres.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from reprise.clustering import coarse
from reprise.clustering.centres import nearest, nearest_centres, sums
from reprise.measures.unit_vectors import unit

EXACT_MOVES = 2  # at the end
LARGEST_LOSS = 1e-2  # share of the objective that the first early move may lose
LEAST_GAIN = 1e-6  # share of the objective by which an early move must improve it
ROWS = 1 << 14  # looked at together
MOVES_BEFORE_MERGING = 2  # after which clusters of centres drawn close to each other have a border between them

# (k, d) sums and (k,) counts of clusters, K -> the same of K clusters
Merge = Callable[[np.ndarray, np.ndarray, int], tuple[np.ndarray, np.ndarray]]


def lloyd(
    features: np.ndarray,
    centres: np.ndarray,
    iterations: int,
    *,
    spherical: bool = False,
    final: bool = True,
    clusters: int | None = None,
    merge: Merge | None = None,
    device: str | None = None,
) -> tuple[np.ndarray, float]:
    """Move each centre to the mean of the images nearest to it; an empty one goes to the image farthest from its own.

    Args:
        features: (n, d) float32.
        centres: (K, d) float32, where the moves begin.
        iterations: moves at most; they stop when no image changes its centre.
        spherical: bring centres back to length one, which the features should have.
        final: whether these are the last moves; where more follow, none of these need be exact.
        clusters: K where there are more centres: `merge` joins them after the second move, or the last one if that is
            the first.
        merge: how they are joined.
        device: where products are computed; None: `cuda` where there is one.

    Returns:
        (K, d) float32 centres, and the sum of squared distances to them of the images that moved them.
    """
    (n, d), K = features.shape, clusters or len(centres)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    early = iterations - EXACT_MOVES if final else iterations
    rough = coarse.CoarseRows(features) if early > 0 and coarse.is_faster(n, d, K, device) else None
    if rough is not None and _loss(rough, features, centres) > LARGEST_LOSS:
        rough = None
    middle = features.mean(axis=0, dtype=np.float64).astype(np.float32)
    spread, objective, before = _spread(features, middle), np.inf, None
    for number in range(iterations):
        labels = rough.nearest(centres) if rough is not None and number < early else None
        if labels is None or np.bincount(labels, minlength=len(centres)).min() == 0:  # to 8 bits two centres may be one
            rough, labels = None, nearest_centres(features, centres, device)
            if before is not None and len(centres) <= K and (labels == before).all():
                break
            before = labels
        total, counts = sums(features, labels, len(centres))
        merges = merge is not None and len(centres) > K and number + 1 >= min(MOVES_BEFORE_MERGING, iterations)
        if merge is not None and merges:
            total, counts = merge(total, counts, K)
            before = None  # the labels are of other clusters
        centres = _moved(features, centres, total, counts, device)
        if spherical:
            centres = unit(centres, np.float32)
        # sum of n_k (|c_k|^2 - 2 c_k mean_k) over the clusters, with all vectors taken from `middle`, which cancels
        # less; with the spread of the images about `middle` it is the sum of squared distances
        away, last = centres.astype(np.float64) - middle, objective
        objective = spread + float((away * (counts[:, None] * (away + 2.0 * middle) - 2 * total)).sum())
        if rough is not None and not merges and last - objective <= LEAST_GAIN * objective:
            rough = None
    return centres, max(objective, 0.0)


def _moved(features: np.ndarray, old: np.ndarray, total: np.ndarray, counts: np.ndarray, device: str) -> np.ndarray:
    """Means of the clusters, (K, d) float32; an empty one takes the image that is farthest from its old centre."""
    empty = np.flatnonzero(counts == 0)
    far = np.argsort(-nearest(features, old, device).squared, kind="stable") if len(empty) else empty
    centres = (total / np.maximum(counts, 1)[:, None]).astype(np.float32)
    centres[empty[: len(far)]] = features[far[: len(empty)]]
    return centres


def _loss(rough: coarse.CoarseRows, features: np.ndarray, centres: np.ndarray) -> float:
    """How much larger the squared distances of a sample are with the centres that `rough` finds, as a share."""
    every = -(-len(features) // coarse.SAMPLE)
    rows = np.asarray(features[::every], dtype=np.float64)
    least = nearest(features[::every], centres, "cpu").squared.sum(dtype=np.float64)
    found = ((rows - centres[rough.nearest(centres, every)]) ** 2).sum()
    return float((found - least) / max(least, 1e-300))


def _spread(features: np.ndarray, middle: np.ndarray) -> float:
    """Sum of squared distances of all images to one point."""
    total = 0.0
    for start in range(0, len(features), ROWS):
        away = features[start : start + ROWS] - middle
        total += float(np.einsum("nd,nd->n", away, away).sum(dtype=np.float64))
    return total
