"""`gaussian_mixture`: Gaussian clusters that split and merge until their number fits.

Source: GPC, "Learning Semi-supervised Gaussian Mixture Models for Generalized Category Discovery", ICCV 2023 (its
splits and merges after DeepDPM, CVPR 2022). Authors' code: DTennant/GPC.

Idea: a prior on clusters gives the marginal likelihood of a set of images in closed form, and with it the odds that a
cluster is two, or two are one (stages/mine/mixture.py, with the formulas). k-means makes the first clusters.

Stated method, not the code: there a proposal with H < 1 is taken with a fixed probability, merged clusters stay in the
list (their number never falls), and sub-clusters are looked up by position. Deviations: features are centred, put on
`components` principal components and to length one before; images are given to one cluster in each round. No labels:
the paper's own setting, with some, is the miner `semi_supervised_mixture`.

Confidence is the responsibility of the own cluster. Distances are Euclidean, to its mean.

Checked by: tests/stages/mine/test_miners.py; docs/explanation/mining.md.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from reprise.clustering.centres import nearest, renumbered
from reprise.clustering.merging import merging_kmeans
from reprise.runtime.seeds import numpy_rng
from stages.mine.miner import Mined, Miner, check_clusters
from stages.mine.mixture import Mixture, MixtureParams, prepared


class GaussianMixture(Miner):
    """Split and merge; the number of clusters is found."""

    Params = MixtureParams
    params: MixtureParams

    def mine(self, features: np.ndarray, truth: list[str | None] | None, work: Path) -> Mined:
        """Cluster (n, d) features.

        Raises:
            MiningError: more clusters to start with than images, constant features.
        """
        check_clusters(features, self.params.clusters, "mining.*.clusters")
        with threadpool_limits(1):  # small matrices, and sums that repeat
            x = prepared(features, self.params.components, self.params.unit_length)
            mixture = Mixture(x, np.full(len(x), -1), self.params)
            return mixture.fitted(self._start(x), self.seed, "gaussian mixture")

    def _start(self, x: np.ndarray) -> np.ndarray:
        if self.params.clusters == 1:
            return np.zeros(len(x), dtype=np.int64)
        x32 = x.astype(np.float32)
        centres = merging_kmeans(x32, self.params.clusters, 20, 1, numpy_rng(self.seed, "mixture"))
        return renumbered(nearest(x32, centres, "cpu").centre)
