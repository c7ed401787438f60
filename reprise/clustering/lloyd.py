"""k-means from more centres than asked for, which merge; early moves on 8-bit integers where that pays, the last exact.

An early move is wrong about images near a border only, and a border that is a little off moves the means little; the
last moves put that right. Where the data are finer than 8 bits can tell (a sample of rows says so at the start, later a
centre that nothing is near to, or clusters that become no better), exact moves take over at once.

It starts from half as many centres again as asked for, which merge after two moves (reprise/clustering/merging.py).

Legend: n images, d dimensions, K centres.
"""

from __future__ import annotations

import numpy as np
import torch

from reprise.clustering import coarse
from reprise.clustering.centres import nearest, nearest_centres, plus_plus, sums, unit
from reprise.clustering.merging import merged

EXACT_MOVES = 2  # at the end
MOST_HARM = 1e-2  # share of the objective that the first early move may lose
LEAST_GAIN = 1e-6  # share of the objective by which an early move must improve it
ROWS = 1 << 14  # looked at together
MORE = 2  # one more for each two
MOVES_BEFORE_MERGING = 2


def first_centres(features: np.ndarray, K: int, rng: np.random.Generator) -> np.ndarray:
    """k-means++ centres for `lloyd(..., clusters=K)`: half as many again as K, as far as there are rows."""
    return plus_plus(features, min(K + K // MORE, len(features)), rng)


def lloyd(
    features: np.ndarray,
    centres: np.ndarray,
    iterations: int,
    spherical: bool = False,
    ends: bool = True,
    clusters: int | None = None,
) -> tuple[np.ndarray, float]:
    """Move the centres to the means of what is nearest to them; an empty one goes to the image farthest from its own.

    Args:
        spherical: centres are brought back to length one (the features should have it).
        ends: False where more moves follow; then the last ones need not be exact.
        clusters: K; centres beyond it are merged after the second move, or the last one if that is the first. None: as
            many as there are.

    Returns:
        (K, d) float32 centres, and the sum of squared distances to them of the images that moved them. Stops early
        when nothing moves.
    """
    (n, d), K = features.shape, clusters or len(centres)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    early = iterations - EXACT_MOVES if ends else iterations
    rough = coarse.CoarseRows(features) if early > 0 and coarse.pays(n, d, K, device) else None
    if rough is not None and _harm(rough, features, centres) > MOST_HARM:
        rough = None
    middle = features.mean(axis=0, dtype=np.float64).astype(np.float32)
    spread, objective, before = _spread(features, middle), np.inf, None
    for number in range(iterations):
        found = rough.nearest(centres) if rough is not None and number < early else None
        if found is None or np.bincount(found, minlength=len(centres)).min() == 0:  # to 8 bits two centres may be one
            rough, found = None, nearest_centres(features, centres, device)
            if before is not None and len(centres) <= K and (found == before).all():
                break
            before = found
        total, counts = sums(features, found, len(centres))
        merges = len(centres) > K and number + 1 >= min(MOVES_BEFORE_MERGING, iterations)
        if merges:
            total, counts = merged(total, counts, K)
            before = None
        empty = np.flatnonzero(counts == 0)
        far = np.argsort(-nearest(features, centres, device).squared, kind="stable") if len(empty) else empty
        centres = (total / np.maximum(counts, 1)[:, None]).astype(np.float32)
        centres[empty[: len(far)]] = features[far[: len(empty)]]
        if spherical:
            centres = unit(centres)
        away, last = centres.astype(np.float64) - middle, objective
        objective = spread + float((away * (counts[:, None] * (away + 2.0 * middle) - 2 * total)).sum())
        if rough is not None and not merges and last - objective <= LEAST_GAIN * objective:
            rough = None
    return centres, max(objective, 0.0)


def _harm(rough: coarse.CoarseRows, features: np.ndarray, centres: np.ndarray) -> float:
    """How much larger the sum of squared distances of a sample is with what `rough` finds, as a share of the least."""
    every = -(-len(features) // coarse.SAMPLE)
    rows = np.asarray(features[::every], dtype=np.float64)
    least = nearest(features[::every], centres, "cpu").squared.sum(dtype=np.float64)
    found = ((rows - centres[rough.nearest(centres, every)]) ** 2).sum()
    return float((found - least) / max(least, 1e-300))


def _spread(features: np.ndarray, middle: np.ndarray) -> float:
    """Sum of squared distances to one point."""
    total = 0.0
    for start in range(0, len(features), ROWS):
        away = features[start : start + ROWS] - middle
        total += float(np.einsum("nd,nd->n", away, away).sum(dtype=np.float64))
    return total


def fit(
    features: np.ndarray, K: int, iterations: int, starts: int, rng: np.random.Generator, spherical: bool = False
) -> np.ndarray:
    """The best of several starts of `lloyd` from `first_centres`: (K, d) float32."""
    best, least = None, np.inf
    for _ in range(starts):
        centres, objective = lloyd(features, first_centres(features, K, rng), iterations, spherical, clusters=K)
        if best is None or objective < least:
            best, least = centres, objective
    assert best is not None
    return best
