"""k-means from more centres than asked for, which are joined two by two. Only miners use it: `kmeans` needs none of it.

k-means++ draws single rows, several of them near to each other. After a few moves the clusters of such centres touch,
and the pair whose union costs least (Ward 1963) tells which they are: joining a and b raises the sum of squared
distances by n_a n_b / (n_a + n_b) |c_a - c_b|^2, however many dimensions there are. So mining begins with half as many
centres again as it is asked for: it ends nearer than the best of three plain starts (docs/mining.md).

Legend: n images, d dimensions, k clusters, K clusters that are to be left.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from reprise.clustering.blocks import each_block
from reprise.clustering.kmeans import kmeans
from reprise.clustering.starts import plus_plus

CELLS = 1 << 20  # costs held at once: 4 MiB of float32
MORE = 2  # one more centre for each two


def first_centres(features: np.ndarray, K: int, rng: np.random.Generator) -> np.ndarray:
    """Draw half as many k-means++ centres again as K, as far as there are rows: the start that `merged` goes with."""
    return plus_plus(features, min(K + K // MORE, len(features)), rng)


def merged(total: np.ndarray, counts: np.ndarray, K: int) -> tuple[np.ndarray, np.ndarray]:
    """Join the cheapest pairs until K clusters are left; empty ones cost nothing.

    It goes by rounds, since every union changes the costs: each cluster names its cheapest partner, and at most half of
    the surplus is joined, the cheapest pairs first, no cluster twice. A union has the place of its first part.

    Args:
        total: (k, d) float64 sums of the rows of each cluster.
        counts: (k,) rows of each cluster.
        K: at most k, at least 1.

    Returns:
        (K, d) float64 sums and (K,) counts.
    """
    while len(counts) > K:
        partner, cost = _partners(total, counts)
        most = -(-(len(counts) - K) // 2)
        free = np.ones(len(counts), bool)
        gone: list[int] = []
        total, counts = total.copy(), counts.copy()
        for one in np.argsort(cost, kind="stable"):
            if len(gone) == most:
                break
            first, second = sorted((int(one), int(partner[one])))
            if free[first] and free[second]:
                free[first] = free[second] = False
                total[first] += total[second]
                counts[first] += counts[second]
                gone.append(second)
        total, counts = np.delete(total, gone, axis=0), np.delete(counts, gone)
    return total, counts


merging_kmeans = partial(kmeans, start=first_centres, merge=merged)


def _partners(total: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(k,) the other cluster that is cheapest to join, the lowest number where costs are equal; (k,) its cost."""
    k = len(counts)
    centres = total / np.maximum(counts, 1)[:, None]
    centres -= centres.mean(axis=0)  # distances stay, cancellation shrinks
    bank = torch.from_numpy(centres.astype(np.float32))
    squared = np.einsum("kd,kd->k", bank.numpy(), bank.numpy())
    weight = counts.astype(np.float32)
    partner, cost = np.empty(k, np.int64), np.empty(k, np.float32)
    rows = max(1, CELLS // k)

    def work(start: int) -> None:
        part = slice(start, start + rows)
        apart = torch.mm(bank[part], bank.T).numpy()  # |a|^2 + |b|^2 - 2 a b, in place
        apart *= -2
        apart += squared
        apart += squared[part, None]
        np.maximum(apart, 0, out=apart)
        both = weight[part, None] + weight
        apart *= weight[part, None] * weight / np.maximum(both, 1)
        own = np.arange(len(apart))
        apart[own, start + own] = np.inf
        partner[part] = apart.argmin(axis=1)
        cost[part] = apart[own, partner[part]]

    each_block(work, range(0, k, rows))
    return partner, cost
