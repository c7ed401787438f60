"""Gaussian clusters that split and merge until their number fits: what the mixtures of GPC share.

A normal-inverse-Wishart prior gives the marginal likelihood of a set of images in closed form. Each round every cluster
proposes to fall into two (2-means inside it) and every cluster proposes to join its nearest. A proposal is taken with
probability min(1, H), the Hastings ratio of the Dirichlet process mixture:

    log H_split = log alpha + lgamma(N1) + L1 + lgamma(N2) + L2 - lgamma(N) - L,     log H_merge = - log H_split

with L the log marginal likelihood of a set. Between rounds images move to the cluster of greatest posterior density.
Prior as in GPC's code: mean of the data, kappa 0.0001, nu d + 2, Psi prior_variance * I.

Images with a label (none in the unsupervised miner) keep these rules in every round: those of one class are in one
cluster, which holds no images labelled with another class. So a split takes them to one half, a merge of two classes is
not proposed, and they do not move.

Legend: n images, d components, N images of one cluster.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field
from scipy.linalg import solve_triangular
from scipy.special import gammaln, logsumexp, multigammaln

from reprise.clustering.centres import means, nearest, renumbered
from reprise.clustering.merging import merging_kmeans
from reprise.config.params import meaning
from reprise.measures.unit_vectors import unit
from reprise.runtime.seeds import numpy_rng
from reprise.storage.progress import Progress
from stages.mine.miner import ClusterParams, Mined

KAPPA = 1e-4
LARGEST_LIST = 1 << 22  # images by clusters whose densities are held at once


class MixtureParams(ClusterParams):
    """Parameters of the Gaussian mixtures."""

    clusters: Annotated[
        int,
        Field(ge=1, le=10_000),
        meaning("Mining begins with this many clusters, and finds their final number.", "clusters"),
    ] = 10
    rounds: Annotated[
        int, Field(ge=1, le=1000), meaning("Splits and merges are proposed this many times.", "rounds")
    ] = 20
    components: Annotated[
        int,
        Field(ge=1, le=512),
        meaning("Features are reduced to at most this many principal components.", "components"),
    ] = 32
    prior_variance: Annotated[
        float,
        Field(gt=0, le=1e6),
        meaning("The prior gives a cluster this variance in each direction; a smaller one leads to more clusters."),
    ] = 0.005
    alpha: Annotated[
        float,
        Field(gt=0, le=1e6),
        meaning("The Dirichlet process has this concentration; a larger one leads to more clusters."),
    ] = 1.0
    unit_length: Annotated[bool, meaning("Features are brought to length one.")] = True


@dataclass(frozen=True)
class Prior:
    """The normal-inverse-Wishart prior: mean (d,), kappa, nu, Psi = psi * I."""

    mean: np.ndarray
    kappa: float
    nu: float
    psi: float

    def posterior(self, x: np.ndarray) -> tuple[np.ndarray, float, float, np.ndarray]:
        """Compute mean (d,), kappa, nu and Psi (d, d) after the rows (N, d)."""
        count, own = len(x), x.mean(axis=0)
        kappa, shift, centred = self.kappa + count, own - self.mean, x - own
        scatter = centred.T @ centred + self.kappa * count / kappa * np.outer(shift, shift)
        mean = (self.kappa * self.mean + count * own) / kappa
        return mean, kappa, self.nu + count, scatter + self.psi * np.eye(len(self.mean))

    def log_marginal(self, x: np.ndarray) -> float:
        """Compute the log of the probability of the rows (N, d), mean and covariance integrated out; 0 for no rows."""
        if not len(x):
            return 0.0
        d = len(self.mean)
        _, kappa, nu, psi = self.posterior(x)
        log_determinant = 2 * np.log(np.diag(np.linalg.cholesky(psi))).sum()
        return float(
            -len(x) * d / 2 * np.log(np.pi)
            + multigammaln(nu / 2, d)
            - multigammaln(self.nu / 2, d)
            + self.nu / 2 * d * np.log(self.psi)
            - nu / 2 * log_determinant
            + d / 2 * (np.log(self.kappa) - np.log(kappa))
        )

    def log_density(self, x: np.ndarray, members: np.ndarray) -> np.ndarray:
        """Compute the log density of the rows under the posterior mean and covariance given `members`: (n,)."""
        mean, _, nu, psi = self.posterior(members)
        d = len(mean)
        factor = np.linalg.cholesky(psi / max(nu - d - 1, 1.0))
        white = solve_triangular(factor, (x - mean).T, lower=True)
        return -0.5 * (white**2).sum(axis=0) - np.log(np.diag(factor)).sum() - d / 2 * np.log(2 * np.pi)


def log_split(prior: Prior, first: np.ndarray, second: np.ndarray, alpha: float) -> float:
    """Compute the log of the Hastings ratio of splitting a cluster into two; minus it is that of joining them."""
    n1, n2 = len(first), len(second)
    if not n1 or not n2:
        return -np.inf
    together = prior.log_marginal(np.concatenate([first, second]))
    return float(
        np.log(alpha)
        + gammaln(n1)
        + prior.log_marginal(first)
        + gammaln(n2)
        + prior.log_marginal(second)
        - gammaln(n1 + n2)
        - together
    )


def prepared(features: np.ndarray, components: int, unit_length: bool) -> np.ndarray:
    """Centre features, project them on principal components, scale them to length one: (n, d) float64."""
    x = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    if x.shape[1] > components:
        _, vectors = np.linalg.eigh(x.T @ x)
        basis = vectors[:, ::-1][:, :components]
        x = x @ (basis * np.sign(basis[np.abs(basis).argmax(axis=0), np.arange(basis.shape[1])]))
    return unit(x, np.float32).astype(np.float64) if unit_length else x


class Mixture:
    """Splits, merges and moves on prepared features.

    Args:
        x: (n, d) float64 from `prepared`.
        labels: (n,) int64, the class of labelled images, -1 for the others.
        params: of the miner.
    """

    def __init__(self, x: np.ndarray, labels: np.ndarray, params: MixtureParams) -> None:
        self.x, self.labels, self.params = x, labels, params
        self.prior = Prior(x.mean(axis=0), KAPPA, x.shape[1] + 2.0, params.prior_variance)

    def fitted(self, clusters: np.ndarray, seed: int, label: str) -> Mined:
        """Split, merge and move in rounds until nothing changes, or all rounds are done.

        Args:
            clusters: (n,) int64 from 0, without gaps, where it starts; they keep the rules for labelled images.
            seed: of the proposals.
            label: of the progress line.
        """
        with Progress(f"{label} seed {seed}", self.params.rounds, "rounds") as progress:
            for number in range(self.params.rounds):
                rng = numpy_rng(seed, "mixture", number)
                before, count = clusters, int(clusters.max()) + 1
                clusters = renumbered(self.merged(self.split(clusters, rng), rng))
                clusters, _ = self.assigned(clusters)
                progress.advance(1, clusters=float(clusters.max() + 1))
                if count == int(clusters.max()) + 1 and (before == clusters).all():
                    break
        clusters, confidence = self.assigned(clusters)
        centres = means(self.x.astype(np.float32), clusters, int(clusters.max()) + 1)
        distance = np.linalg.norm(self.x - centres[clusters], axis=1).astype(np.float32)
        return Mined(clusters, distance, confidence)

    def split(self, clusters: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Let each cluster propose to split into two."""
        x, clusters, count = self.x, clusters.copy(), int(clusters.max()) + 1
        for cluster in range(count):
            members = np.flatnonzero(clusters == cluster)
            part = x[members].astype(np.float32)
            if len(members) < 4 or (part == part[0]).all():
                continue
            second = nearest(part, merging_kmeans(part, 2, 20, 2, rng), "cpu").centre == 1
            labelled = self.labels[members] >= 0  # of one class: they go where most of them are
            second[labelled] = 2 * second[labelled].sum() > labelled.sum()
            ratio = log_split(self.prior, x[members[~second]], x[members[second]], self.params.alpha)
            if ratio > np.log(rng.random()):
                clusters[members[second]] = clusters.max() + 1
        return clusters

    def merged(self, clusters: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Let each cluster propose to join the nearest one of no other class; each takes part in one merge at most."""
        x, clusters, count = self.x, clusters.copy(), int(clusters.max()) + 1
        centres = np.stack([x[clusters == cluster].mean(axis=0) for cluster in range(count)])
        apart = ((centres[:, None] - centres[None]) ** 2).sum(axis=2) if count <= 2000 else None
        classes = np.full(count, -1)
        classes[clusters[self.labels >= 0]] = self.labels[self.labels >= 0]
        used = np.zeros(count, dtype=bool)
        for cluster in range(count):
            away = (apart[cluster] if apart is not None else ((centres - centres[cluster]) ** 2).sum(axis=1)).copy()
            away[used], away[cluster] = np.inf, np.inf
            if classes[cluster] >= 0:
                away[classes >= 0] = np.inf
            other = int(away.argmin())
            if used[cluster] or not np.isfinite(away[other]):
                continue
            ratio = -log_split(self.prior, x[clusters == cluster], x[clusters == other], self.params.alpha)
            if ratio > np.log(rng.random()):
                clusters[clusters == other] = cluster
                used[[cluster, other]] = True
        return clusters

    def assigned(self, clusters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Assign each image to the cluster of greatest weight times density; labelled images stay.

        Returns:
            Clusters (n,) and responsibilities (n,) float32; 1 for labelled images.
        """
        x, count, fixed = self.x, int(clusters.max()) + 1, self.labels >= 0
        size = np.bincount(clusters, minlength=count)
        members = [x[clusters == cluster] for cluster in range(count)]
        best, sure = np.empty(len(x), np.int64), np.empty(len(x), np.float32)
        step = max(1, LARGEST_LIST // count)
        for start in range(0, len(x), step):
            block = x[start : start + step]
            density = np.stack([self.prior.log_density(block, m) for m in members], axis=1)
            table = density + np.log(size / (len(x) + self.params.alpha))
            best[start : start + step] = table.argmax(axis=1)
            sure[start : start + step] = np.exp(table.max(axis=1) - logsumexp(table, axis=1))
        best[fixed], sure[fixed] = clusters[fixed], 1.0
        return renumbered(best), sure
