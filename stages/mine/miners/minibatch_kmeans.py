"""`minibatch_kmeans`: k-means that sees blocks of rows, for features that do not fit into memory.

Source: Sculley 2010 (Bottou and Bengio 1995): a centre is the mean of all images that it was given so far, so its step
shrinks as 1 / count. The features come memory-mapped; blocks follow each other in random order, `passes` times over,
and one more pass labels everything. Memory: a few blocks, the centres and twenty rows for each, whatever the number of
images.

Deviations: it begins with more centres, which merge after the first pass (reprise/clustering/merging.py); blocks are
consecutive rows (keys are hashes of the content, so their order is random already); centres that no image asked for in
a pass move to images of the next block. Confidence is 1 - d1 / d2 as in `kmeans`.
Where fewer rows differ than clusters are asked for, fewer are found.

Legend: n images, d dimensions, K clusters.

Checked by: tests/stages/mine/test_miners.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from reprise.artifacts.weights.checkpoints import latest_checkpoint, save_checkpoint
from reprise.clustering.centres import nearest, nearest_centres, renumbered, sums
from reprise.clustering.merging import first_centres, merged
from reprise.clustering.starts import SAMPLE
from reprise.config.params import meaning
from reprise.runtime.seeds import numpy_rng
from reprise.storage.progress import Progress
from stages.mine.miner import ClusterParams, Mined, Miner, check_clusters


class MiniBatchParams(ClusterParams):
    """Parameters of `minibatch_kmeans`."""

    clusters: Annotated[
        int, Field(ge=2, le=10_000_000), meaning("The images fall into this many clusters.", "clusters")
    ]
    rows: Annotated[int, Field(ge=1, le=10_000_000), meaning("A block holds this many images.", "images")] = 8192
    passes: Annotated[
        int, Field(ge=1, le=1000), meaning("K-means passes over all images this many times.", "passes")
    ] = 5


class MiniBatchKMeans(Miner):
    """Streams its features; after each pass there is a checkpoint."""

    Params = MiniBatchParams
    params: MiniBatchParams
    streams = True

    def mine(self, features: np.ndarray, truth: list[str | None] | None, work: Path) -> Mined:
        """Cluster (n, d) features.

        Raises:
            MiningError: more clusters than images, constant features.
        """
        K, rows, passes = self.params.clusters, self.params.rows, self.params.passes
        check_clusters(features, K, "mining.*.clusters")
        blocks = np.arange(0, len(features), rows)
        state = latest_checkpoint(work)
        if state is None:
            rng = numpy_rng(self.seed, "minibatch")
            drawn = np.sort(rng.choice(len(features), min(len(features), 2 * SAMPLE * K), replace=False))
            first = first_centres(np.asarray(features[drawn]), K, rng)
            state = {"pass": 0, "centres": first, "counts": np.zeros(len(first))}
        centres, counts = np.array(state["centres"], np.float64), np.array(state["counts"], np.float64)
        total_rows, done = passes * len(features), state["pass"] * len(features)
        with Progress(f"mini-batch k-means seed {self.seed}", total_rows, done=done) as progress:
            for number in range(state["pass"], passes):
                rng = numpy_rng(self.seed, "minibatch", number)
                asked = np.zeros(len(centres), np.int64)
                for start in rng.permutation(blocks):
                    block = np.asarray(features[start : start + rows], dtype=np.float32)
                    idle = np.flatnonzero(counts == 0) if number else np.empty(0, np.int64)
                    if len(idle):
                        moved = rng.permutation(len(block))[: len(idle)]
                        centres[idle[: len(moved)]] = block[moved]
                    total, found = sums(block, nearest_centres(block, centres.astype(np.float32)), len(centres))
                    counts += found
                    asked += found
                    given = found > 0
                    centres[given] += (total[given] - found[given, None] * centres[given]) / counts[given, None]
                    progress.advance(len(block))
                counts[asked == 0] = 0
                if len(centres) > K:
                    total, counts = merged(centres * counts[:, None], counts, K)
                    centres = total / np.maximum(counts, 1)[:, None]
                state = {"pass": number + 1, "centres": centres, "counts": counts}
                save_checkpoint(work, number + 1, state)
        final = nearest(features, centres.astype(np.float32))
        return Mined(renumbered(final.centre), final.distance, final.confidence)
