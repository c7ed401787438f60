"""Which images belong together: k-means on the features of all images, for folders of photographs without labels.

Centres are found on train, and every image of every split goes to the nearest. Certainty of an image is 1 - d1 / d2,
d1 and d2 being its distances to the nearest and the second nearest centre: 0 on a border, 1 on a centre. Clusters are
numbered from 0 by falling size in train. Labels play no part.

How many clusters there are in photographs has no answer. Unless a number is asked for, it is the square root of half
the number of training images (a rule of thumb of Mardia et al. 1979), and at most as many as a person looks through.

Source: Lloyd 1982; the features have length one.

Checked by: tests/stages/probe/label_free/test_clustering.py.

Legend: n images, d dimensions, K clusters.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from reprise.artifacts.labels.image_clusters import SCHEMA
from reprise.artifacts.manifest import SPLITS
from reprise.config.params import Seed, StrictModel, meaning
from reprise.runtime.seeds import numpy_rng
from stages.probe import scoring
from stages.probe.data import BACKBONE, ProbeData
from stages.probe.probe import Probe, ProbeResult

MOST_BY_RULE = 100
FEWEST_IMAGES = 4  # of train, below which there is nothing to divide
AGAIN = 2  # times k-means is repeated from other starts, for `stability`


class Clustering(Probe):
    """Metrics: `silhouette` on the test split, `stability`; table: key, cluster, distance, certainty of every image."""

    needs_labels: ClassVar[bool] = False

    class Params(StrictModel):
        """Parameters of `clustering`."""

        clusters: Annotated[
            Annotated[int, Field(ge=2, le=10_000)] | None,
            meaning(
                f"K-means finds this many clusters; null takes the square root of half the training images, 2 to "
                f"{MOST_BY_RULE}.",
                "clusters",
            ),
        ] = None
        iterations: Annotated[
            int, Field(ge=1, le=1000), meaning("K-means takes at most this many iterations.", "iterations")
        ] = 50
        starts: Annotated[
            int, Field(ge=1, le=100), meaning("The best of this many random starts is kept.", "starts")
        ] = 5
        seed: Annotated[Seed, meaning("The random starts depend on this seed.")] = 0

    def run(self, data: ProbeData) -> ProbeResult:
        """Centres from train, a cluster for every image."""
        from reprise.clustering.centres import nearest
        from reprise.measures.cluster_quality import silhouette
        from reprise.measures.unit_vectors import unit

        bank = unit(data.features("train", BACKBONE), np.float32)
        distinct = len(np.unique(bank, axis=0))
        if distinct < FEWEST_IMAGES:
            return ProbeResult(
                {}, {"note": f"not run: train has {distinct} different images, of {FEWEST_IMAGES} needed"}
            )
        asked = self.params.clusters
        k = min(asked or clusters_by_rule(len(bank)), distinct)
        centres = self._centres(bank, k, 0)
        centres = centres[by_size(nearest(bank, centres).centre, k)]
        parts = [(data.part(split), unit(data.features(split, BACKBONE), np.float32)) for split in SPLITS]
        found = [nearest(features, centres) for _, features in parts]
        table = pa.table(
            {
                "key": np.concatenate([part.keys for part, _ in parts]),
                "cluster": np.concatenate([f.centre for f in found]).astype(np.int32),
                "distance": np.concatenate([f.distance for f in found]),
                "certainty": np.concatenate([f.confidence for f in found]),
            },
            schema=SCHEMA,
        ).sort_by("key")
        scored = SPLITS.index(data.test)
        apart = silhouette(parts[scored][1], found[scored].centre)
        metrics = {} if apart is None else {"silhouette": scoring.plain(apart, len(parts[scored][0]))}
        metrics["stability"] = scoring.plain(self._stability(bank, centres, k), len(bank))
        protocol = {
            "tap": BACKBONE,
            "clusters": f"{k}, {_reason(asked, k, distinct)}",
            "k-means": f"on {len(bank)} of train, best of {self.params.starts} starts, seed {self.params.seed}",
            "table": f"all {table.num_rows} images, each in the cluster of the nearest centre",
            "silhouette": f"on {data.test_note}; -1 to 1",
            "stability": f"adjusted Rand index with k-means from other starts, mean of {AGAIN}; 1 is the same clusters",
            "interval": "none: duplicates would raise agreement",
        }
        return ProbeResult(metrics, protocol, table=table)

    def _centres(self, bank: np.ndarray, k: int, turn: int) -> np.ndarray:
        """(n, d) float32 of length one -> (K, d) float32; each turn starts elsewhere."""
        from reprise.clustering.kmeans import kmeans

        rng = numpy_rng(self.params.seed, "clustering", turn)
        return kmeans(bank, k, self.params.iterations, self.params.starts, rng)

    def _stability(self, bank: np.ndarray, centres: np.ndarray, k: int) -> float:
        from reprise.clustering.centres import nearest_centres
        from reprise.measures.cluster_quality import adjusted_rand_index, contingency

        first = nearest_centres(bank, centres)
        others = [nearest_centres(bank, self._centres(bank, k, 1 + turn)) for turn in range(AGAIN)]
        return float(np.mean([adjusted_rand_index(contingency(first, other)) for other in others]))


def clusters_by_rule(images: int) -> int:
    """Return the square root of half the number of training images, between 2 and `MOST_BY_RULE`."""
    return max(2, min(MOST_BY_RULE, round((images / 2) ** 0.5)))


def by_size(clusters: np.ndarray, k: int) -> np.ndarray:
    """Return the (K,) numbers of clusters, the largest first; equal ones keep their order, empty ones are left out."""
    sizes = np.bincount(clusters, minlength=k)
    order = np.argsort(-sizes, kind="stable")
    return order[sizes[order] > 0]


def _reason(asked: int | None, k: int, distinct: int) -> str:
    if asked is None:
        return "the square root of half the training images"
    return "as asked for" if k == asked else f"asked for {asked}, but train has {distinct} different images"
