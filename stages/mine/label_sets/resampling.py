"""Mining again without a part of the images, to see which images stay with their cluster.

Each of R resamples leaves out another R-th of the images (drawn at random), so every image is mined again R - 1 times,
in the same way. The clusters of a resample are matched one to one with those of the label set by the images that they
share (Hungarian method). Mining costs about R times as much again, and holds the features in memory.

Legend: n images, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from reprise.config.errors import MiningError
from reprise.measures.cluster_quality import adjusted_rand_index, contingency, matched_clusters
from reprise.runtime.seeds import mix, numpy_rng


def resampled(
    clusters: np.ndarray,
    resamples: int,
    seed: int,
    work: Path,
    cluster: Callable[[np.ndarray, int, Path], np.ndarray],
) -> tuple[np.ndarray, float]:
    """Measure the agreement of each image, and the mean agreement of the label sets.

    Args:
        clusters: (n,) of the label set, -1 for no label.
        resamples: R, at least 3.
        seed: of the parts that are left out.
        work: a folder; each resample gets one in it.
        cluster: mines again: rows of the images, seed and work folder -> clusters of these.

    Returns:
        (n,) float32, the share of the R - 1 times in which the image was in the cluster that matches its own; and the
        mean adjusted Rand index over the resamples, on the images that both label.
    """
    part = numpy_rng(seed, "resample").permutation(len(clusters)) % resamples
    agreed = np.zeros(len(clusters), dtype=np.int64)
    indices = []
    for number in range(resamples):
        rows = np.flatnonzero(part != number)
        place = work / f"resample-{number}"
        place.mkdir(exist_ok=True)
        try:
            again = cluster(rows, mix(seed, "resample", number) % 2**31, place)
        except MiningError as error:
            raise MiningError(
                f"{error.what}, when a resample leaves out images",
                where=error.where,
                found=error.found,
                fix=f"{error.fix} Or set mining.*.resamples to 0.",
            ) from error
        name = matched_clusters(clusters[rows], again)
        agreed[rows] += (clusters[rows] >= 0) & (name == clusters[rows])
        counts = contingency(clusters[rows], again)
        indices.append(adjusted_rand_index(counts) if counts.size else 0.0)
    return (agreed / (resamples - 1)).astype(np.float32), float(np.mean(indices))
