"""Clustering: do the classes lie apart without being told? k-means on the features, held against the labels.

Centres are found on train without labels, as many as there are classes there, and test images go to the nearest.
NMI and ARI need no pairing of clusters with classes; `accuracy` takes the best one-to-one pairing (Hungarian). k-means
wants round clusters of one size: a class in two parts costs accuracy though a linear probe separates it.
Source: the usual figures of deep clustering (Xie et al. 2016). Features of length one. No intervals: drawing images
with replacement makes duplicates, and duplicates raise agreement.

Checked by: tests/stages/probe/quality/test_retrieval.py.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from reprise.config.params import Seed, StrictModel, meaning
from reprise.runtime.seeds import numpy_rng
from stages.probe import scoring
from stages.probe.data import BACKBONE, ProbeData
from stages.probe.probe import Probe, ProbeResult


class Clusters(Probe):
    """Metrics on the test split: `nmi`, `ari`, `accuracy`, `purity`."""

    needs_labels: ClassVar[bool] = True

    class Params(StrictModel):
        """Parameters of `clusters`."""

        clusters: Annotated[
            Annotated[int, Field(ge=1, le=100_000)] | None,
            meaning("K-means finds this many clusters; null takes the number of classes in train.", "clusters"),
        ] = None
        iterations: Annotated[
            int, Field(ge=1, le=1000), meaning("K-means takes at most this many iterations.", "iterations")
        ] = 50
        starts: Annotated[
            int, Field(ge=1, le=100), meaning("The best of this many random starts is kept.", "starts")
        ] = 5
        seed: Annotated[Seed, meaning("The random starts depend on this seed.")] = 0

    def run(self, data: ProbeData) -> ProbeResult:
        """Centres from train, agreement on test."""
        from reprise.clustering.centres import nearest_centres
        from reprise.clustering.kmeans import kmeans
        from reprise.measures.cluster_quality import agreement
        from reprise.measures.unit_vectors import unit

        params, train, test = self.params, data.part("train"), data.part(data.test)
        classes = len(np.unique(train.labels[train.labelled]))
        x = unit(data.features("train", BACKBONE), np.float32)
        k = min(params.clusters or classes, len(x))
        centres = kmeans(x, k, params.iterations, params.starts, numpy_rng(params.seed, "clusters"))
        cluster = nearest_centres(unit(data.features(data.test, BACKBONE), np.float32), centres)
        known = int(test.labelled.sum())
        found = agreement(cluster, test.labels)
        metrics = {name: scoring.plain(value, known) for name, value in found.items() if value is not None}
        protocol = {
            **scoring.counts_note(data),
            "tap": BACKBONE,
            "clusters": f"{k}, {'as many as classes in train' if params.clusters is None else 'as asked for'}",
            "k-means": f"on {len(x)} of train, best of {params.starts} starts, seed {params.seed}",
            "interval": "none: duplicates would raise agreement",
        }
        if "classes absent from train" in protocol:
            protocol["classes absent from train"] = "their test images count among the clusters that take them in"
        return ProbeResult(metrics, protocol)
