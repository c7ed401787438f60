"""Clusters joined two by two: k-means that starts with more centres than it is to have, and gives up the least needed.

k-means++ draws single rows, several of them near to each other. After a few moves the clusters of such centres lie side
by side, and the pair whose union costs least (Ward 1963) tells which: joining a and b raises the sum of squared
distances by n_a n_b / (n_a + n_b) |c_a - c_b|^2, however many dimensions there are.

Legend: d dimensions, K clusters.
"""

from __future__ import annotations

import numpy as np
import torch

from reprise.clustering.blocks import each_block

CELLS = 1 << 20  # costs held at once: 4 MiB of float32


def merged(total: np.ndarray, counts: np.ndarray, clusters: int) -> tuple[np.ndarray, np.ndarray]:
    """Join the cheapest pairs until so many clusters are left; empty ones cost nothing.

    Rounds: each cluster names its cheapest partner, and at most half of what is still too many is joined, the cheapest
    pairs first, none twice. A joined cluster has the place of its first part.

    Args:
        total: (K, d) float64 sums of the rows of each cluster. counts: (K,) how many rows.
        clusters: at most K, at least 1.

    Returns:
        (clusters, d) float64 sums and (clusters,) counts.
    """
    while len(counts) > clusters:
        partner, cost = _partners(total, counts)
        most = -(-(len(counts) - clusters) // 2)
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


def _partners(total: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(K,) the other cluster that is cheapest to join, the lowest number where costs are equal, and its cost."""
    K = len(counts)
    centres = total / np.maximum(counts, 1)[:, None]
    centres -= centres.mean(axis=0)
    bank = torch.from_numpy(centres.astype(np.float32))
    squared = np.einsum("kd,kd->k", bank.numpy(), bank.numpy())
    weight = counts.astype(np.float32)
    partner, cost = np.empty(K, np.int64), np.empty(K, np.float32)
    rows = max(1, CELLS // K)

    def work(start: int) -> None:
        part = slice(start, start + rows)
        apart = torch.mm(bank[part], bank.T).numpy()
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

    each_block(work, range(0, K, rows))
    return partner, cost
