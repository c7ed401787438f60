"""`spectral_membership`: spectral clustering of the doubly stochastic table that a run's codes span.

Source: Ding et al., "Unsupervised Manifold Linearizing and Clustering", ICCV 2023; the scaling is Sinkhorn's (1964),
the clustering that of Ng, Jordan, Weiss (2001). Read in the follow-up with common authors, LeslieTrue/CPP.

Idea: the method `mlc` learns codes of length one; exp(|c_i . c_j| / eta), scaled until rows and columns sum to 1, says
which images belong together. The mean of the table and its transpose has the leading eigenvectors of a random walk
that visits all images alike; k-means on the rows of the first K, brought to length one, makes the clusters. The
training sees this table of a batch, the miner that of all training images, with the same eta. Confidence is 1 - d1 /
d2 of the distances to the two nearest centres, as of other miners.

Deviations: the table is a function of the codes alone, so it is made anew here, once for all images; that takes three
times images^2 numbers, and more than 20,000 images are refused. So are more than 4,000 images in clusters of four or
fewer on average, whose eigenvectors would take up to hours. `half_steps` are by default far more than in training (5),
after which the columns of a table of many images miss 1 by a few per cent.

Legend: n images, d width of the codes, K clusters.

Checked by: tests/stages/mine/test_spectral_membership.py; docs/measurements/learned-clusters.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from scipy.sparse.linalg import ArpackNoConvergence, eigsh
from threadpoolctl import threadpool_limits

from reprise.clustering.centres import nearest, renumbered
from reprise.clustering.merging import merging_kmeans
from reprise.config.errors import MiningError
from reprise.config.params import StrictModel, meaning
from reprise.measures.unit_vectors import unit
from reprise.objectives.sinkhorn import doubly_stochastic
from reprise.runtime.seeds import numpy_rng
from stages.mine.miner import ClusterParams, Mined, Miner, check_clusters

MOST = 20_000  # images: a table of 1.6 GB, of which scaling holds three at once, so 4.8 GB
MOST_DENSE = 4_000  # images whose whole spectrum is computed: half a minute; the time grows with their cube


class SpectralMembershipParams(ClusterParams):
    """Parameters of `spectral_membership`."""

    clusters: Annotated[
        int,
        Field(ge=2, le=10_000),
        meaning("The images fall into this many clusters, by as many eigenvectors.", "clusters"),
    ]
    eta: Annotated[
        float, Field(gt=0, le=10), meaning("Affinities are divided by this temperature, that of the training.")
    ] = 0.175
    half_steps: Annotated[
        int, Field(ge=1, le=1001), meaning("Rows and columns are scaled in turn this often.", "scalings")
    ] = 51
    starts: Annotated[int, Field(ge=1, le=100), meaning("The best of this many random starts is kept.", "starts")] = 3


class SpectralMembership(Miner):
    """Eigenvectors of a doubly stochastic table."""

    Params = SpectralMembershipParams
    params: SpectralMembershipParams
    tap = "codes"

    @classmethod
    def refuse_images(cls, params: StrictModel, images: int, where: str = "mining.*") -> None:
        """Refuse fewer images than clusters, a table that is too large, and a spectrum that would take hours.

        Raises:
            MiningError: saying which.
        """
        super().refuse_images(params, images, where)
        if images > MOST:
            raise MiningError(
                "the table of all pairs of images is too large",
                where=where,
                found=f"{images} images",
                fix=f"Use `spectral` or `kmeans` on the run, or at most {MOST} images.",
            )
        assert isinstance(params, SpectralMembershipParams)
        if images > MOST_DENSE and _dense(images, params.clusters):
            raise MiningError(
                "so many clusters of so many images need the whole spectrum of their table, which takes hours",
                where=where,
                found=f"{images} images in {params.clusters} clusters",
                fix=f"Ask for fewer than {-(-images // 4)} clusters, or use `kmeans` on the run.",
            )

    def mine(self, features: np.ndarray, truth: list[str | None] | None, work: Path) -> Mined:
        """Cluster (n, d) codes.

        Raises:
            MiningError: more clusters than images, constant codes, too many images, eigenvectors that were not found.
        """
        K = self.params.clusters
        self.refuse_images(self.params, len(features))
        check_clusters(features, K, "mining.*.clusters")
        vectors = unit(leading(self.table(features), K), np.float32)
        rng = numpy_rng(self.seed, "spectral_membership")
        found = nearest(vectors, merging_kmeans(vectors, K, 100, self.params.starts, rng))
        return Mined(renumbered(found.centre), found.distance, found.confidence)

    def table(self, codes: np.ndarray) -> np.ndarray:
        """Make the symmetric table of memberships: (n, d) -> (n, n) float32."""
        c = torch.from_numpy(unit(codes, np.float32))
        with torch.no_grad():
            scaled = doubly_stochastic((c @ c.T).abs(), self.params.eta, self.params.half_steps)
        return (0.5 * (scaled + scaled.T)).numpy()


def _dense(n: int, count: int) -> bool:
    """Whether all eigenvectors are computed: ARPACK wants far fewer vectors than rows."""
    return n <= 4 * count or n <= 64


def leading(table: np.ndarray, count: int) -> np.ndarray:
    """Compute the eigenvectors of the largest eigenvalues of a symmetric matrix: (n, n) -> (n, count) float32.

    The largest entry of a vector is made positive.

    Raises:
        MiningError: ARPACK did not converge.
    """
    n = len(table)
    with threadpool_limits(1):
        if _dense(n, count):
            vectors = np.linalg.eigh(table.astype(np.float64))[1][:, ::-1][:, :count]
        else:
            try:
                values, vectors = eigsh(table, count, which="LA", v0=numpy_rng("eigenvectors", n).random(n), tol=1e-6)
            except ArpackNoConvergence as error:
                raise MiningError(
                    "the eigenvectors of the table were not found",
                    where="mining.*.clusters",
                    found=error,
                    fix="Ask for fewer clusters, or raise mining.*.eta.",
                ) from error
            vectors = vectors[:, np.argsort(-values, kind="stable")]
    sign = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])])
    return (vectors * sign).astype(np.float32)
