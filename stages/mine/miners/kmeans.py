"""`kmeans`: Lloyd's k-means from k-means++ centres, best of several starts.

A start draws half as many centres again as asked for and merges them on the way (reprise/clustering/merging.py): it
ends nearer than the best of several plain ones. On a GPU where there is one.

Confidence of an image is 1 - d1 / d2, d1 and d2 being its distances to the nearest and the second nearest centre:
0 on a border, 1 on a centre. Clusters are renumbered by the smallest row that they hold, so the numbers do not
depend on the start. With K = batch size, as in G-SimCLR, zero conflicts need equal clusters; K of three to four
times the batch leaves room (docs/explanation/g-simclr.md).

Every start, and in large inputs every few iterations, ends with a checkpoint: a killed process goes on from there.
Between two checkpoints the centres depend on the features and on the centres before only, so it ends the same.

Legend: n images, d dimensions, K clusters.

Source: Lloyd 1982; Arthur and Vassilvitskii 2007 (k-means++).

Checked by: tests/stages/mine/test_miners.py; docs/explanation/mining.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from reprise.artifacts.weights.checkpoints import latest_checkpoint, save_checkpoint
from reprise.clustering.centres import nearest, renumbered
from reprise.clustering.lloyd import MOVES_BEFORE_MERGING, lloyd
from reprise.clustering.merging import first_centres, merged
from reprise.config.params import meaning
from reprise.runtime.seeds import numpy_rng
from reprise.storage.progress import Progress
from stages.mine.miner import ClusterParams, Mined, Miner, check_clusters

WORK_BETWEEN_SAVES = 10**12  # multiplications, n d K an iteration: about half a minute on one core


class KMeansParams(ClusterParams):
    """Parameters of `kmeans`."""

    clusters: Annotated[
        int, Field(ge=2, le=10_000_000), meaning("The images fall into this many clusters.", "clusters")
    ]
    iterations: Annotated[
        int, Field(ge=1, le=1000), meaning("Lloyd's algorithm takes at most this many iterations.", "iterations")
    ] = 50
    starts: Annotated[int, Field(ge=1, le=100), meaning("The best of this many random starts is kept.", "starts")] = 3


class KMeans(Miner):
    """Euclidean k-means on the features as they are."""

    Params = KMeansParams
    params: KMeansParams

    def mine(self, features: np.ndarray, truth: list[str | None] | None, work: Path) -> Mined:
        """Cluster (n, d) features.

        Raises:
            MiningError: more clusters than images, constant features.
        """
        check_clusters(features, self.params.clusters, "mining.*.clusters")
        features = np.ascontiguousarray(features, dtype=np.float32)
        found = nearest(features, self.centres(features, work))
        return Mined(renumbered(found.centre), found.distance, found.confidence)

    def centres(self, features: np.ndarray, work: Path) -> np.ndarray:
        """(n, d) float32 -> (K, d) float32: those of the start with the smallest sum of squared distances."""
        clusters, iterations, starts = self.params.clusters, self.params.iterations, self.params.starts
        state: dict[str, Any] = latest_checkpoint(work) or {
            "start": 0, "iteration": 0, "centres": None, "best": None, "objective": None,
        }  # fmt: skip
        at_once = max(MOVES_BEFORE_MERGING, WORK_BETWEEN_SAVES // (features.size * clusters))
        done = state["start"] * iterations + state["iteration"]
        with Progress(f"k-means seed {self.seed}", starts * iterations, "iterations", done) as progress:
            while state["start"] < starts:
                if state["centres"] is None:
                    rng = numpy_rng(self.seed, "kmeans", state["start"])
                    state["centres"] = first_centres(features, clusters, rng)
                count = min(at_once, iterations - state["iteration"])
                state["iteration"] += count
                final = state["iteration"] == iterations
                state["centres"], objective = lloyd(
                    features, state["centres"], count, final=final, clusters=clusters, merge=merged
                )
                if final:
                    if state["objective"] is None or objective < state["objective"]:
                        state |= {"best": state["centres"], "objective": objective}
                    state |= {"start": state["start"] + 1, "iteration": 0, "centres": None}
                progress.advance(count, objective=objective)
                save_checkpoint(work, state["start"] * iterations + state["iteration"], state)
        return np.asarray(state["best"])
