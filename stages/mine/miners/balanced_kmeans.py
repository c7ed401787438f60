"""`balanced_kmeans`: k-means whose clusters all have floor(n / K) or ceil(n / K) images.

With G-SimCLR's K = batch size, equal clusters are what zero conflicts need (docs/explanation/g-simclr.md).

Idea: k-means, then in turns a balanced assignment and new means. The assignment is optimal transport: a price for each
centre under which demand nearly equals capacity (Sinkhorn iterations, Cuturi 2013), then rounding: images ask for the
centre that is cheapest with its price, a centre takes those that would lose most elsewhere, the others ask again.
It ends within a few per cent of the optimal assignment (the test compares with the Hungarian one).

Deviations: Malinen and Fraenti 2014 solve every assignment exactly, in O(n^3). Copies of one image may be parted.

Legend: n images, K clusters.

Source: Malinen and Fraenti 2014 (balanced k-means); Cuturi 2013 (the assignment).

Checked by: tests/stages/mine/test_miners.py; docs/explanation/mining.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from reprise.clustering.blocks import each_block
from reprise.clustering.centres import distance_confidence, means, renumbered
from reprise.clustering.merging import merging_kmeans
from reprise.config.errors import MiningError
from reprise.config.params import StrictModel, meaning
from reprise.runtime.seeds import numpy_rng
from reprise.storage.progress import Progress
from stages.mine.miner import ClusterParams, Mined, Miner, check_features

LARGEST = 2**29  # entries of the n x K table of distances: 2 GiB of float32
SHARPNESS = (0.1, 0.03, 0.01, 0.003)  # temperatures of the transport, in mean squared distances
SINKHORN_STEPS = 30  # at each
BLOCK = 1 << 20  # entries of the table looked at together: 4 MiB


class BalancedParams(ClusterParams):
    """Parameters of `balanced_kmeans`."""

    clusters: Annotated[int, Field(ge=2, le=1_000_000), meaning("The images fall into this many clusters.", "clusters")]
    rounds: Annotated[
        int, Field(ge=1, le=1000), meaning("Balanced assignments and new means take turns this many times.", "rounds")
    ] = 5
    iterations: Annotated[
        int,
        Field(ge=1, le=1000),
        meaning("The k-means before the balancing takes at most this many iterations.", "iterations"),
    ] = 20


class BalancedKMeans(Miner):
    """Equal sizes. Confidence is 1 - d1 / d2, 0 where the own centre is not the nearest."""

    Params = BalancedParams
    params: BalancedParams

    @classmethod
    def refuse_images(cls, params: StrictModel, images: int, where: str = "mining.*") -> None:
        """Refuse fewer images than clusters, and a table of images by clusters that is too large.

        Raises:
            MiningError: saying which.
        """
        super().refuse_images(params, images, where)
        clusters = params.clusters  # type: ignore[attr-defined]
        if images * clusters > LARGEST:
            raise MiningError(
                "the table of images by clusters is too large",
                where=f"{where}.clusters",
                found=f"{images} x {clusters}",
                fix="Use `kmeans` with K of three to four times the batch, or fewer clusters.",
            )

    def mine(self, features: np.ndarray, truth: list[str | None] | None, work: Path) -> Mined:
        """Cluster (n, d) features.

        Raises:
            MiningError: more clusters than images, constant features, a table too large for memory.
        """
        K = self.params.clusters
        self.refuse_images(self.params, len(features))
        check_features(features, "mining")
        features = np.ascontiguousarray(features, dtype=np.float32)
        centres = merging_kmeans(features, K, self.params.iterations, 1, numpy_rng(self.seed, "balanced"))
        clusters, price = np.full(len(features), -1, dtype=np.int64), None
        with Progress(f"balanced k-means seed {self.seed}", self.params.rounds, "rounds") as progress:
            for _ in range(self.params.rounds):
                cost = squared_distances(features, centres)
                price = prices(cost, price)  # centres move little: the prices before are nearly right
                before, clusters = clusters, balanced(cost, price)
                if (before == clusters).all():
                    break
                centres = means(features, clusters, K)
                progress.advance(1)
        squared = squared_distances(features, centres)
        rows = np.arange(len(features))
        own = np.sqrt(squared[rows, clusters])
        squared[rows, clusters] = np.inf
        other = np.sqrt(squared.min(axis=1))
        return Mined(renumbered(clusters), own.astype(np.float32), distance_confidence(own, other))


def squared_distances(features: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Compute squared distances in float32 for all pairs: (n, K)."""
    middle = centres.mean(axis=0)
    x, c = features - middle, centres - middle
    table = x @ c.T
    table *= -2
    table += np.einsum("nd,nd->n", x, x)[:, None]
    table += np.einsum("kd,kd->k", c, c)[None]
    return np.maximum(table, 0.0, out=table)


def balanced(cost: np.ndarray, price: np.ndarray) -> np.ndarray:
    """Assign images to clusters whose sizes differ by at most one, at a small total cost: (n,) int64.

    Args:
        cost: (n, K) float32.
        price: (K,) that makes demand nearly equal to capacity.
    """
    n, K = cost.shape
    priced = cost + price[None]
    demand = np.bincount(priced.argmin(axis=1), minlength=K)
    room = np.full(K, n // K)
    room[np.argsort(-demand, kind="stable")[: n % K]] += 1
    clusters = np.full(n, -1, dtype=np.int64)
    waiting = np.arange(n)
    while len(waiting):
        table = np.where(room > 0, priced[waiting], np.inf)
        rows = np.arange(len(waiting))
        choice = table.argmin(axis=1)
        least = table[rows, choice]
        table[rows, choice] = np.inf
        loss = table.min(axis=1) - least  # by going elsewhere; infinite where one centre is left
        # sorted by centre, then by loss: the rank of an image among those that ask for its centre
        order = np.lexsort((-loss, choice))
        start = np.concatenate([[0], np.cumsum(np.bincount(choice, minlength=K))[:-1]])
        rank = np.arange(len(order)) - start[choice[order]]
        taken = order[rank < room[choice[order]]]
        clusters[waiting[taken]] = choice[taken]
        room -= np.bincount(choice[taken], minlength=K)
        waiting = np.delete(waiting, taken)
    return clusters


def prices(cost: np.ndarray, start: np.ndarray | None = None) -> np.ndarray:
    """Find prices (K,) under which every centre is asked for equally often, by ever sharper Sinkhorn iterations.

    Args:
        cost: (n, K) float32.
        start: (K,) prices of similar costs; then only the sharpest iterations are left to do.
    """
    n, K = cost.shape
    scale = float(cost.mean(dtype=np.float64)) or 1.0
    price = np.zeros(K) if start is None else start.astype(np.float64)
    rows = max(1, BLOCK // K)
    table, starts = torch.from_numpy(cost), range(0, n, rows)
    parts = np.empty((len(starts), K), np.float32)
    for sharpness in SHARPNESS if start is None else SHARPNESS[-1:]:
        temperature = sharpness * scale
        for _ in range(SINKHORN_STEPS):
            offset = torch.from_numpy((-price / temperature).astype(np.float32))

            def work(first: int, offset: torch.Tensor = offset, slope: float = -1.0 / temperature) -> None:
                asked = torch.softmax(torch.add(offset, table[first : first + rows], alpha=slope), dim=1)
                parts[first // rows] = asked.sum(0).numpy()

            each_block(work, starts)
            demand = np.maximum(parts.sum(axis=0, dtype=np.float64), 1e-30)
            step = temperature * np.log(demand * K / n)
            price += step
            if np.abs(step).max() < 1e-3 * temperature:
                break
    return price.astype(cost.dtype)
