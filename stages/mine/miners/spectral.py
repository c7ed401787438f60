"""`spectral`: k-means on the leading eigenvectors of a nearest-neighbour graph.

Source: Ng, Jordan, Weiss 2001; graph of k nearest neighbours by cosine, an edge weighing 1 where both count each other,
1/2 where one does (as in scikit-learn's SpectralClustering with `nearest_neighbors`). It finds clusters of any shape,
as long as neighbours follow it. Where the graph falls into more pieces than clusters are asked for, images outside of
the largest K pieces get no label; where it falls into fewer, pieces are split, copies of one image too.

The eigenvectors come from ARPACK (scipy) with a fixed start and on one thread, so that they repeat. Confidence is
1 - d1 / d2 among the rows of the eigenvectors, brought to length one.

Legend: n images, d dimensions, K clusters.

Checked by: tests/stages/mine/test_miners.py; docs/explanation/mining.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field
from scipy.sparse import csr_array, diags_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import ArpackNoConvergence, eigsh
from threadpoolctl import threadpool_limits

from reprise.clustering.centres import nearest, renumbered
from reprise.clustering.merging import merging_kmeans
from reprise.clustering.neighbour_graph import adjacency, neighbours
from reprise.config.errors import MiningError
from reprise.config.params import meaning
from reprise.measures.unit_vectors import unit
from reprise.runtime.seeds import numpy_rng
from stages.mine.miner import ClusterParams, Mined, Miner, check_clusters


class SpectralParams(ClusterParams):
    """Parameters of `spectral`."""

    clusters: Annotated[
        int,
        Field(ge=2, le=10_000),
        meaning("The images fall into this many clusters, by as many eigenvectors.", "clusters"),
    ]
    neighbours: Annotated[
        int, Field(ge=1, le=1000), meaning("The graph joins each image to this many nearest neighbours.", "neighbours")
    ] = 10
    starts: Annotated[int, Field(ge=1, le=100), meaning("The best of this many random starts is kept.", "starts")] = 3


class Spectral(Miner):
    """Normalised cuts, relaxed."""

    Params = SpectralParams
    params: SpectralParams

    def mine(self, features: np.ndarray, truth: list[str | None] | None, work: Path) -> Mined:
        """Cluster (n, d) features.

        Raises:
            MiningError: more clusters than images, constant features, eigenvectors that were not found.
        """
        K = self.params.clusters
        check_clusters(features, K, "mining.*.clusters")
        rows = neighbours(unit(features, np.float32), min(self.params.neighbours, len(features) - 1))[0]
        vectors = unit(self.eigenvectors(rows, K), np.float32)
        reached = (vectors != 0).any(axis=1)
        rng = numpy_rng(self.seed, "spectral")
        found = nearest(vectors, merging_kmeans(vectors[reached], K, 100, self.params.starts, rng))
        return Mined(renumbered(np.where(reached, found.centre, -1)), found.distance, found.confidence)

    def eigenvectors(self, rows: np.ndarray, K: int) -> np.ndarray:
        """Compute eigenvectors of the normalised adjacency matrix, (n, K) float32, the largest eigenvalues first.

        Each connected piece is solved on its own: every piece has an eigenvalue of 1, and ARPACK misses copies of an
        eigenvalue. The largest entry of a vector is made positive.

        Args:
            rows: (n, k) nearest neighbours of each image.
            K: eigenvectors.
        """
        directed = adjacency(rows, np.ones(rows.shape))
        graph = (directed + directed.T) * 0.5
        scale = diags_array(1.0 / np.sqrt(graph.sum(axis=1)))
        normal = (scale @ graph @ scale).tocsr()
        n = graph.shape[0]
        _, piece = connected_components(normal, directed=False)
        values, vectors = [], []
        by_size = np.argsort(-np.bincount(piece), kind="stable")[:K]  # further pieces have no vector: K are taken
        for number in by_size:
            members = np.flatnonzero(piece == number)
            found = leading(normal[members][:, members], min(len(members), K - len(by_size) + 1))
            whole = np.zeros((n, len(found[0])))
            whole[members] = found[1]
            values.append(found[0])
            vectors.append(whole)
        order = np.argsort(-np.round(np.concatenate(values), 9), kind="stable")[:K]
        chosen = np.concatenate(vectors, axis=1)[:, order]
        sign = np.sign(chosen[np.abs(chosen).argmax(axis=0), np.arange(chosen.shape[1])])
        return (chosen * sign).astype(np.float32)


def leading(matrix: csr_array, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Compute the largest eigenvalues (count,) of a symmetric sparse matrix and their vectors (n, count).

    Raises:
        MiningError: ARPACK did not converge.
    """
    n = matrix.shape[0]
    with threadpool_limits(1):
        if n <= 4 * count or n <= 64:  # ARPACK wants far fewer vectors than rows
            values, vectors = np.linalg.eigh(matrix.toarray())
        else:
            try:
                values, vectors = eigsh(matrix, count, which="LA", v0=numpy_rng("eigenvectors", n).random(n), tol=1e-6)
            except ArpackNoConvergence as error:
                raise MiningError(
                    "the eigenvectors of the graph were not found",
                    where="mining.*.clusters",
                    found=error,
                    fix="Ask for fewer clusters, or raise mining.*.neighbours.",
                ) from error
    order = np.argsort(-values, kind="stable")[:count]
    return values[order], vectors[:, order]
