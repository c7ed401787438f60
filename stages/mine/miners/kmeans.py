"""`kmeans`: Lloyd's k-means by faiss from k-means++ centres, best of several starts.

Confidence of an image is 1 - d1 / d2, d1 and d2 being its distances to the nearest and the second nearest centre:
0 on a border, 1 on a centre. Clusters are renumbered by the smallest row that they hold, so the numbers do not
depend on the start. With K = batch size, as in G-SimCLR, zero conflicts need equal clusters; K of three to four
times the batch leaves room (docs/g-simclr.md).
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from stages.contracts.params import StrictModel
from stages.mine.miner import Mined, Miner, check_clusters
from stages.runtime.seeding import mix


class KMeansParams(StrictModel):
    """clusters: K. iterations: of Lloyd's algorithm. starts: the best of this many is kept."""

    clusters: Annotated[int, Field(ge=2, le=10_000_000)]
    iterations: Annotated[int, Field(ge=1, le=1000)] = 50
    starts: Annotated[int, Field(ge=1, le=100)] = 3


class KMeans(Miner):
    """Euclidean k-means on the features as they are."""

    Params = KMeansParams
    params: KMeansParams

    def mine(self, features: np.ndarray, truth: list[str | None] | None) -> Mined:
        """Cluster (n, d) features.

        Raises:
            MiningError: more clusters than images, constant features.
        """
        import faiss

        check_clusters(features, self.params.clusters, "mining.*.clusters")
        kmeans = faiss.Kmeans(
            features.shape[1],
            self.params.clusters,
            niter=self.params.iterations,
            nredo=self.params.starts,
            init_method=faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS,
            seed=mix(self.seed, "kmeans") % 2**31,
            min_points_per_centroid=1,
            max_points_per_centroid=max(256, -(-len(features) // self.params.clusters)),
        )
        kmeans.train(np.ascontiguousarray(features, dtype=np.float32))
        squared, nearest = kmeans.index.search(
            np.ascontiguousarray(features, dtype=np.float32), min(2, self.params.clusters)
        )
        distance = np.sqrt(np.maximum(squared, 0.0))
        ratio = distance[:, 0] / np.maximum(distance[:, 1], np.finfo(np.float32).tiny)
        return Mined(
            renumbered(nearest[:, 0]),
            distance[:, 0].astype(np.float32),
            np.clip(1.0 - ratio, 0.0, 1.0).astype(np.float32),
        )


def renumbered(clusters: np.ndarray) -> np.ndarray:
    """Clusters numbered from 0 in the order of their first row; empty ones vanish."""
    _, first, inverse = np.unique(clusters, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]
