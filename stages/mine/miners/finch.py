"""`finch`: link images to their nearest neighbours; connected ones are a cluster; then do the same with the means.

Source: Sarfraz, Sharma, Stiefelhagen, "Efficient Parameter-free Clustering Using First Neighbor Relations", CVPR 2019.
Authors' code: ssarfraz/FINCH-Clustering, not read.

Idea: two images belong together if one is the other's nearest, or both have the same nearest. Connected components
are the finest partition; the means of its clusters are clustered in the same way, up to a single cluster. Nothing to
choose but the level. Similarity is the cosine, as in the paper.

`clusters` asks for a number: from the coarsest partition with at least so many, the two clusters whose means are most
similar are merged, again and again (the paper's algorithm 2). Confidence is 1 - d1 / d2 to the means of the clusters.

Legend: n images, d dimensions.

Checked by: tests/stages/mine/test_miners.py; docs/explanation/mining.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from reprise.clustering.centres import means, nearest, renumbered
from reprise.clustering.neighbour_graph import neighbours
from reprise.config.errors import MiningError
from reprise.config.params import meaning
from reprise.measures.unit_vectors import unit
from stages.mine.miner import ClusterParams, Mined, Miner, check_clusters, check_features

MERGED_AT_MOST = 20_000  # clusters whose similarities are held as a table while merging


class FinchParams(ClusterParams):
    """Parameters of `finch`."""

    level: Annotated[
        int, Field(ge=0, le=50), meaning("This level of the hierarchy is taken; 0 is the finest partition.")
    ] = 0
    clusters: Annotated[
        Annotated[int, Field(ge=2, le=MERGED_AT_MOST)] | None,
        meaning("The hierarchy is cut at this many clusters instead of at a level; null takes the level.", "clusters"),
    ] = None


class Finch(Miner):
    """First-neighbour clustering."""

    Params = FinchParams
    params: FinchParams

    def mine(self, features: np.ndarray, truth: list[str | None] | None, work: Path) -> Mined:
        """Cluster (n, d) features.

        Raises:
            MiningError: no such level, more clusters asked for than the finest partition has, constant features.
        """
        wanted = self.params.clusters
        if wanted is not None:
            check_clusters(features, wanted, "mining.*.clusters")
        check_features(features, "mining")
        x = unit(features, np.float32)
        levels = partitions(x)
        counts = [int(level.max()) + 1 for level in levels]
        shown = ", ".join(map(str, counts)) + " clusters"
        if wanted is None:
            if self.params.level >= len(levels):
                raise MiningError(
                    "there is no such level",
                    where="mining.*.level",
                    found=f"levels 0 to {len(levels) - 1} with {shown}",
                    fix=f"Set it to at most {len(levels) - 1}.",
                )
            clusters = levels[self.params.level]
        else:
            fitting = [level for level, count in zip(levels, counts, strict=True) if count >= wanted]
            if not fitting:
                raise MiningError(
                    "the finest partition has fewer clusters",
                    where="mining.*.clusters",
                    found=shown,
                    fix=f"Set it to at most {counts[0]}.",
                )
            if int(fitting[-1].max()) + 1 > MERGED_AT_MOST:
                raise MiningError(
                    "so many clusters cannot be merged one by one",
                    where="mining.*.clusters",
                    found=shown,
                    fix="Use `level`, or a number that is closer below one of these.",
                )
            clusters = merged(x, fitting[-1], wanted)
        clusters = renumbered(clusters)
        found = nearest(x, means(x, clusters, int(clusters.max()) + 1))
        inside = found.centre == clusters
        own = np.linalg.norm(x - means(x, clusters, int(clusters.max()) + 1)[clusters], axis=1)
        return Mined(clusters, own.astype(np.float32), np.where(inside, found.confidence, 0.0).astype(np.float32))


def partitions(x: np.ndarray) -> list[np.ndarray]:
    """Label the images at every level, finest first, down to the last that has more than one cluster.

    Args:
        x: (n, d) float32 rows of length one.

    Returns:
        (n,) int64 at each level.
    """
    levels: list[np.ndarray] = []
    labels, points = np.arange(len(x)), x
    while len(points) > 1:
        first = neighbours(points, 1)[0][:, 0]
        here = np.arange(len(points))
        graph = coo_array((np.ones(len(points), bool), (here, first)), shape=(len(points), len(points)))
        count, component = connected_components(graph, directed=False)
        if count == 1 and levels:
            break
        labels = component[labels]
        levels.append(labels)
        if count in (1, len(points)):
            break
        points = unit(means(x, labels, count), np.float32)
    return levels


def merged(x: np.ndarray, labels: np.ndarray, wanted: int) -> np.ndarray:
    """Merge the two clusters whose means are most similar until `wanted` are left: (n,) int64, with gaps.

    Args:
        x: (n, d) float32 rows of length one.
        labels: (n,) int64 from 0, without gaps.
        wanted: clusters.
    """
    labels, count = labels.copy(), int(labels.max()) + 1
    total = means(x, labels, count).astype(np.float64) * np.bincount(labels)[:, None]
    direction = unit(total.astype(np.float32), np.float32).astype(np.float64)
    table = direction @ direction.T
    np.fill_diagonal(table, -np.inf)
    alive, into = np.ones(count, bool), np.arange(count)
    for _ in range(count - wanted):
        a, b = sorted(divmod(int(table.argmax()), count))
        into[into == b] = a
        total[a] += total[b]
        alive[b] = False
        length = np.linalg.norm(total[a])
        direction[a] = total[a] / (length or 1.0)
        row = np.where(alive, direction @ direction[a], -np.inf)
        row[a] = -np.inf
        table[a], table[:, a], table[b], table[:, b] = row, row, -np.inf, -np.inf
    return into[labels]
