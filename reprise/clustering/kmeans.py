"""The k-means that everything uses: miners, the dictionary of patches, the probe `clusters`, methods with clusters.

Exact (every image is compared with every centre) and reproducible (the same on every number of threads). What differs
between its users is passed in: where it starts, whether rows and centres are directions, and what becomes of centres
that are more than were asked for. Only mining begins with more centres and joins them; it passes in the functions of
reprise/clustering/merging.py, so that nothing else depends on that file.

Legend: n images, d dimensions, K centres.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from reprise.clustering.lloyd import Merge, lloyd
from reprise.clustering.starts import plus_plus

Start = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]  # (n, d) features, K, generator -> first centres


def kmeans(
    features: np.ndarray,
    K: int,
    iterations: int,
    starts: int,
    rng: np.random.Generator,
    *,
    spherical: bool = False,
    start: Start = plus_plus,
    merge: Merge | None = None,
    device: str | None = None,
) -> np.ndarray:
    """Find K centres: of several starts, those with the smallest sum of squared distances.

    Args:
        features: (n, d) float32; of length one where `spherical` is set.
        K: centres, at least 1.
        iterations: moves of a start, at most.
        starts: independent starts, drawn one after the other from `rng`.
        rng: where the starts come from.
        spherical: k-means on directions (Dhillon and Modha 2001): centres are brought back to length one.
        start: draws the first centres. It may draw more than K where `merge` is given.
        merge: joins clusters until K are left; None where `start` draws K.
        device: where products are computed; None: `cuda` where there is one.

    Returns:
        (K, d) float32. Where fewer rows differ than centres are asked for, some centres are equal.
    """
    best, least = None, np.inf
    for _ in range(starts):
        first = start(features, K, rng)
        centres, objective = lloyd(
            features, first, iterations, spherical=spherical, clusters=K, merge=merge, device=device
        )
        if best is None or objective < least:
            best, least = centres, objective
    assert best is not None
    return best
