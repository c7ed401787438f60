"""`mutual_neighbours`: images among each other's nearest, as pairs; connected ones are a cluster.

An edge joins two images that each count the other among their k nearest by cosine (reciprocal neighbours: Jegou et al.
2007, Qin et al. 2011). It is symmetric, so images that are near to everything get no more edges than others. Connected
components of at least `smallest` images become clusters; the other images get no label. A larger k joins more, until
one component holds nearly everything: look at `size_max` in quality.json.

Confidence is the mean similarity over an image's edges, the weight of a pair its similarity, both cut to [0, 1].

Legend: n images, d dimensions, k neighbours.

Source: Jegou et al. 2007, Qin et al. 2011 (reciprocal neighbours).

Checked by: tests/stages/mine/test_miners.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from reprise.clustering.centres import means, renumbered
from reprise.clustering.neighbour_graph import mutual, neighbours
from reprise.config.params import meaning
from reprise.measures.unit_vectors import unit
from stages.mine.miner import ClusterParams, Mined, Miner, Pairs, check_features, refuse_fewer


class MutualParams(ClusterParams):
    """Parameters of `mutual_neighbours`."""

    neighbours: Annotated[
        int,
        Field(ge=1, le=1000),
        meaning("Two images are joined if each is among this many nearest neighbours of the other.", "neighbours"),
    ] = 2
    smallest: Annotated[
        int, Field(ge=2, le=1_000_000), meaning("A cluster has at least this many images.", "images")
    ] = 2
    threshold: Annotated[
        float, Field(ge=-1, le=1), meaning("Two images with a lower cosine similarity are not joined.")
    ] = -1.0


class MutualNeighbours(Miner):
    """Reciprocal nearest neighbours."""

    Params = MutualParams
    makes_pairs = True
    params: MutualParams

    @classmethod
    def refuse_images(cls, params: MutualParams, images: int, where: str = "mining.*") -> None:  # type: ignore[override]
        """Refuse fewer images than an image has neighbours, besides itself.

        Raises:
            MiningError: there are fewer.
        """
        refuse_fewer(images, params.neighbours + 1, f"{where}.neighbours + 1")

    def mine(self, features: np.ndarray, truth: list[str | None] | None, work: Path) -> Mined:
        """Link (n, d) features.

        Raises:
            MiningError: not more images than neighbours, constant features.
        """
        n, k = len(features), self.params.neighbours
        self.refuse_images(self.params, n)
        check_features(features, "mining")
        x = unit(features, np.float32)
        edges, similarity = mutual(*neighbours(x, k))
        kept = similarity >= self.params.threshold
        edges, weight = edges[kept], np.clip(similarity[kept], 0.0, 1.0).astype(np.float32)
        graph = coo_array((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), shape=(n, n))
        component = connected_components(graph, directed=False)[1].astype(np.int64)
        size = np.bincount(component)[component]
        clusters = renumbered(np.where(size >= self.params.smallest, component, -1))
        ends, doubled = edges.ravel(), np.repeat(weight, 2)
        degree = np.bincount(ends, minlength=n)
        confidence = np.bincount(ends, weights=doubled, minlength=n) / np.maximum(degree, 1)
        distance = None
        if (clusters >= 0).any():
            centres = means(x, clusters, int(clusters.max()) + 1)
            distance = np.linalg.norm(x - centres[np.maximum(clusters, 0)], axis=1).astype(np.float32)
        pairs = Pairs(edges, weight, np.full(len(edges), "mutual", dtype=object), np.ones(len(edges), np.int64))
        return Mined(clusters, distance, confidence.astype(np.float32), pairs)
