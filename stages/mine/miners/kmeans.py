"""`kmeans`: Lloyd's k-means from k-means++ centres, best of several starts.

By faiss where the problem is small, by stages/mine/parts/lloyd.py where it is large (on a GPU where there is one).

Confidence of an image is 1 - d1 / d2, d1 and d2 being its distances to the nearest and the second nearest centre:
0 on a border, 1 on a centre. Clusters are renumbered by the smallest row that they hold, so the numbers do not
depend on the start. With K = batch size, as in G-SimCLR, zero conflicts need equal clusters; K of three to four
times the batch leaves room (docs/g-simclr.md).

Every start, and in large inputs every few iterations, ends with a checkpoint: a killed process goes on from there.
Between two checkpoints the centres depend on the features and on the centres before only, so it ends the same.

Legend: n images, d dimensions, K clusters.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from stages.contracts.checkpoints import latest_checkpoint, save_checkpoint
from stages.mine.miner import ClusterParams, Mined, Miner, check_clusters
from stages.mine.parts import centres as own
from stages.mine.parts import lloyd as moves
from stages.mine.parts.centres import renumbered
from stages.runtime.progress import Progress
from stages.runtime.seeding import mix, numpy_rng

WORK_BETWEEN_SAVES = 10**12  # multiplications, n d K an iteration: about half a minute on one core
LARGE = 2**31  # multiplications, n d K an iteration: from here on stages/mine/parts/lloyd.py is the faster one
_NEXT_START = 15_486_557  # between the seeds of two starts, as in faiss's own `nredo`


class KMeansParams(ClusterParams):
    """clusters: K. iterations: of Lloyd's algorithm. starts: the best of this many is kept."""

    clusters: Annotated[int, Field(ge=2, le=10_000_000)]
    iterations: Annotated[int, Field(ge=1, le=1000)] = 50
    starts: Annotated[int, Field(ge=1, le=100)] = 3


class KMeans(Miner):
    """Euclidean k-means on the features as they are."""

    Params = KMeansParams
    params: KMeansParams

    def mine(self, features: np.ndarray, truth: list[str | None] | None, work: Path) -> Mined:
        """Cluster (n, d) features.

        Raises:
            MiningError: more clusters than images, constant features.
        """
        import faiss

        check_clusters(features, self.params.clusters, "mining.*.clusters")
        features = np.ascontiguousarray(features, dtype=np.float32)
        centres = self.centres(features, work)
        if features.size * len(centres) >= LARGE:
            found = own.nearest(features, centres)
            return Mined(renumbered(found.centre), found.distance, found.confidence)
        index = faiss.IndexFlatL2(features.shape[1])
        index.add(centres)
        squared, nearest = index.search(features, 2)
        distance = np.sqrt(np.maximum(squared, 0.0))
        ratio = distance[:, 0] / np.maximum(distance[:, 1], np.finfo(np.float32).tiny)
        return Mined(
            renumbered(nearest[:, 0]),
            distance[:, 0].astype(np.float32),
            np.clip(1.0 - ratio, 0.0, 1.0).astype(np.float32),
        )

    def centres(self, features: np.ndarray, work: Path) -> np.ndarray:
        """(n, d) float32 -> (K, d) float32: those of the start with the smallest sum of squared distances."""
        clusters, iterations, starts = self.params.clusters, self.params.iterations, self.params.starts
        state: dict[str, Any] = latest_checkpoint(work) or {
            "start": 0, "iteration": 0, "centres": None, "best": None, "objective": None,
        }  # fmt: skip
        at_once = max(1, WORK_BETWEEN_SAVES // (features.size * clusters))
        done = state["start"] * iterations + state["iteration"]
        with Progress(f"k-means seed {self.seed}", starts * iterations, "iterations", done) as progress:
            while state["start"] < starts:
                if state["centres"] is None:
                    state["centres"] = first_centres(
                        features, clusters, mix(self.seed, "kmeans") % 2**31 + 1 + state["start"] * _NEXT_START
                    )
                count = min(at_once, iterations - state["iteration"])
                state["iteration"] += count
                ends = state["iteration"] == iterations
                state["centres"], objective = lloyd(features, state["centres"], count, clusters, ends)
                if ends:
                    if state["objective"] is None or objective < state["objective"]:
                        state |= {"best": state["centres"], "objective": objective}
                    state |= {"start": state["start"] + 1, "iteration": 0, "centres": None}
                progress.advance(count, objective=objective)
                save_checkpoint(work, state["start"] * iterations + state["iteration"], state)
        return np.asarray(state["best"])


def first_centres(features: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """k-means++ (Arthur and Vassilvitskii 2007): (n, d) -> (K, d), or half as many again where n d K is large."""
    if features.size * clusters >= LARGE:
        return moves.first_centres(features, clusters, numpy_rng(seed, "kmeans centres"))
    import faiss

    chosen = faiss.ClusteringInitialization(features.shape[1], clusters)  # type: ignore[attr-defined]  # not in its stubs
    chosen.method, chosen.seed = faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS, seed
    centres = np.empty((clusters, features.shape[1]), np.float32)
    chosen.init_centroids(len(features), faiss.swig_ptr(features), faiss.swig_ptr(centres))
    return centres


def lloyd(
    features: np.ndarray, centres: np.ndarray, iterations: int, clusters: int, ends: bool = True
) -> tuple[np.ndarray, float]:
    """Move the centres to the means of what is nearest to them; empty clusters take half of a large one.

    Args:
        clusters: K; more centres are merged on the way.
        ends: False where more moves follow.

    Returns:
        (K, d) centres, and the sum of squared distances to the centres before the last move.
    """
    if features.size * clusters >= LARGE:
        return moves.lloyd(features, centres, iterations, ends=ends, clusters=clusters)
    import faiss

    kmeans = faiss.Kmeans(
        features.shape[1],
        len(centres),
        niter=iterations,
        min_points_per_centroid=1,
        max_points_per_centroid=-(-len(features) // len(centres)),  # all of them: no subsample
    )
    objective = kmeans.train(features, init_centroids=centres)
    return np.asarray(kmeans.centroids), float(objective)
