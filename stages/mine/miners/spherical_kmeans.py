"""`spherical_kmeans`: k-means on directions: features and centres of length one.

Source: Dhillon and Modha 2001. For embeddings, whose similarity is the cosine: length, which says how typical or how
sharp an image is, then takes no part. Distances are chords (0 to 2), confidence is 1 - d1 / d2 as in `kmeans`.
A row of zeros has no direction and gets no label. Where fewer rows differ than clusters are asked for, fewer are found.

Legend: n images, d dimensions, K clusters.

Checked by: tests/stages/mine/test_miners.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from reprise.clustering.centres import nearest, renumbered
from reprise.clustering.merging import merging_kmeans
from reprise.config.params import meaning
from reprise.measures.unit_vectors import unit
from reprise.runtime.seeds import numpy_rng
from stages.mine.miner import ClusterParams, Mined, Miner, check_clusters


class SphericalParams(ClusterParams):
    """Parameters of `spherical_kmeans`."""

    clusters: Annotated[
        int, Field(ge=2, le=10_000_000), meaning("The images fall into this many clusters.", "clusters")
    ]
    iterations: Annotated[
        int, Field(ge=1, le=1000), meaning("K-means takes at most this many iterations.", "iterations")
    ] = 50
    starts: Annotated[int, Field(ge=1, le=100), meaning("The best of this many random starts is kept.", "starts")] = 3


class SphericalKMeans(Miner):
    """Lloyd's algorithm on the unit sphere."""

    Params = SphericalParams
    params: SphericalParams

    def mine(self, features: np.ndarray, truth: list[str | None] | None, work: Path) -> Mined:
        """Cluster (n, d) features.

        Raises:
            MiningError: more clusters than images with a direction, constant features.
        """
        directed = np.flatnonzero((features != 0).any(axis=1))
        check_clusters(features[directed] if len(directed) else features, self.params.clusters, "mining.*.clusters")
        x = unit(features, np.float32)
        centres = merging_kmeans(
            x[directed],
            self.params.clusters,
            self.params.iterations,
            self.params.starts,
            numpy_rng(self.seed, "spherical"),
            spherical=True,
        )
        found = nearest(x, centres)
        clusters = np.full(len(x), -1, dtype=np.int64)
        clusters[directed] = found.centre[directed]
        return Mined(renumbered(clusters), found.distance, found.confidence)
