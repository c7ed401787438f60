"""Nearest centres and means, the same on every number of threads.

Products of float32 are added up in an order that depends on threads and processor. So wherever the two best centres of
an image are closer than rounding can tell, they are compared in float64; sums over clusters are taken in the order of
the rows. The results then depend on the features only.

Legend: n images, b images of one block, d dimensions, K centres.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array

from reprise.clustering.blocks import each_block
from reprise.runtime.blocks.arrays import BLOCK_BYTES, in_blocks

CELLS = 1 << 20  # products held at once: 4 MiB of float32, which stays in the cache
GPU_CELLS = 1 << 24  # the same on a GPU, which is left waiting by small blocks
SUM_ROWS = 1 << 16  # rows whose float32 sums go into one of float64


@dataclass(frozen=True)
class Nearest:
    """For each image: its centre, and the squared distances to it and to the second nearest.

    Attributes:
        centre: (n,) int64, the lowest number where two are equally near.
        squared: (n,) float32, to the own centre.
        second: (n,) float32, to the second nearest; infinite where there is one centre only.
    """

    centre: np.ndarray
    squared: np.ndarray
    second: np.ndarray

    @property
    def confidence(self) -> np.ndarray:
        """(n,) float32 in [0, 1]: 1 - d1 / d2, 0 on a border, 1 on a centre."""
        return distance_confidence(np.sqrt(self.squared), np.sqrt(self.second))

    @property
    def distance(self) -> np.ndarray:
        """(n,) float32 to the own centre."""
        return np.sqrt(self.squared)


def distance_confidence(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Compute 1 - d1 / d2 from distances to the nearest and the second nearest centre; 0 where both are 0.

    Args:
        first: (n,) d1.
        second: (n,) d2.

    Returns:
        (n,) float32 in [0, 1].
    """
    ratio = first / np.maximum(second, np.finfo(np.float32).tiny)
    return np.clip(np.where(second > 0, 1.0 - ratio, 0.0), 0.0, 1.0).astype(np.float32)


def nearest(features: np.ndarray, centres: np.ndarray, device: str | None = None) -> Nearest:
    """Find the nearest centre of each image by Euclidean distance, and how far it and the second one are.

    Args:
        features: (n, d) float32, also memory-mapped: rows are read in blocks.
        centres: (K, d) float32.
        device: where products are computed; None: `cuda` where there is one.
    """
    n = len(features)
    squared, second = np.empty(n, np.float32), np.full(n, np.inf, np.float32)
    return Nearest(_search(features, centres, device, squared, second), squared, second)


def nearest_centres(features: np.ndarray, centres: np.ndarray, device: str | None = None) -> np.ndarray:
    """Find the centres that `nearest` finds, without the distances and at less cost: (n,) int64."""
    return _search(features, centres, device)


def _search(
    features: np.ndarray,
    centres: np.ndarray,
    device: str | None,
    squared: np.ndarray | None = None,
    second: np.ndarray | None = None,
) -> np.ndarray:
    """(n,) int64 nearest centres; fills `squared` and `second` where they are given.

    |x - c|^2 = |x|^2 - 2 (x c - |c|^2 / 2), so the nearest centre has the largest score x c - |c|^2 / 2: one product of
    matrices. It is computed in float32 for all centres. `slack` bounds its rounding error from above: a multiple of
    the machine epsilon, of sqrt(d) since errors of a sum cancel like a random walk, and of the lengths of the vectors.
    Where the two best scores of a row are farther apart than twice that, the best is certain; the few other rows are
    scored again in float64, on the CPU. So a GPU, which adds up in another order, gives the CPU's answers; of its
    scores only the two best of each row travel to the host.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    n, K = len(features), len(centres)
    step = max(1, (CELLS if device == "cpu" else GPU_CELLS) // K)
    if device == "cpu":
        size, far = n * K * features.shape[1], squared is not None
        blocks = in_blocks(_search_rows, [features, centres], n, size, step, 16, {"distances": far})
        if blocks is not None:
            return _collected(blocks, n, squared, second)
    middle = centres.astype(np.float64).mean(axis=0).astype(np.float32)  # distances stay, cancellation shrinks
    bank = torch.from_numpy(np.ascontiguousarray((centres - middle).T)).to(device)  # (d, K)
    across64 = bank.cpu().double()
    bank64 = np.ascontiguousarray(across64.numpy().T)  # (K, d)
    half64 = (bank64**2).sum(1) / 2
    half = torch.from_numpy(half64.astype(np.float32)).to(device)
    longest = float(np.sqrt(2 * half64.max())) if K else 0.0
    # the same bound as in reprise/measures/nearest/neighbours.py
    slack = 4 * (features.shape[1] + 4) ** 0.5 * float(np.finfo(np.float32).eps)
    centre = np.empty(n, np.int64)

    def work(start: int) -> None:
        block = np.asarray(features[start : start + step], dtype=np.float32) - middle
        score = torch.addmm(half, torch.from_numpy(block).to(device), bank, beta=-1)
        best, top, other, following = two_best(score)
        first64 = _exact(block, bank64, half64, best) if squared is not None else np.empty(len(block))
        second64 = np.full(len(block), -np.inf)
        if K > 1:
            if second is not None:
                second64 = _exact(block, bank64, half64, other)
            length = np.sqrt(np.einsum("nd,nd->n", block, block))
            unsure = np.flatnonzero(top - following <= 2 * slack * (length * longest + longest**2))
            for part in np.array_split(unsure, max(1, -(-len(unsure) * K // CELLS))):
                exact = torch.mm(torch.from_numpy(block[part]).double(), across64).numpy() - half64
                most = exact.max(axis=1, keepdims=True)
                # scores that float64 cannot tell apart become equal, so that argmax takes the lowest number
                exact = np.where(most - exact <= _tie(length[part], longest), most, exact)
                inner = np.arange(len(part))
                best[part] = exact.argmax(axis=1)
                first64[part] = exact[inner, best[part]]
                exact[inner, best[part]] = -np.inf
                second64[part] = exact.max(axis=1)
        centre[start : start + step] = best
        if squared is not None and second is not None:
            own = np.einsum("nd,nd->n", block, block, dtype=np.float64)
            squared[start : start + step] = np.maximum(own - 2 * first64, 0.0)
            second[start : start + step] = np.maximum(own - 2 * second64, 0.0)

    each_block(work, range(0, n, step), device)
    return centre


def _search_rows(
    features: np.ndarray, centres: np.ndarray, start: int, stop: int, distances: bool
) -> tuple[np.ndarray, ...]:
    """Find the centres of some rows, with both squared distances if asked for."""
    if not distances:
        return (_search(features[start:stop], centres, "cpu"),)
    found = nearest(features[start:stop], centres, "cpu")
    return found.centre, found.squared, found.second


def _collected(
    blocks: Iterable[tuple[slice, Any]], n: int, squared: np.ndarray | None, second: np.ndarray | None
) -> np.ndarray:
    """Put the answers for blocks of rows into their places; see `_search`."""
    centre = np.empty(n, np.int64)
    for rows, (found, *distances) in blocks:
        centre[rows] = found
        if squared is not None and second is not None:
            squared[rows], second[rows] = distances
    return centre


def two_best(score: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Find the two largest scores of each row where they lie; equal ones may come in any order.

    Args:
        score: (b, K) float32, overwritten.

    Returns:
        Place and value of the largest, place and value of the second: (b,) int64 and float32 each. Where K is 1, the
        second is the only one again, with the value -inf.
    """
    if score.device.type == "cpu":  # NumPy's argmax is several times as fast as torch's there
        array, rows = score.numpy(), np.arange(len(score))
        best = array.argmax(axis=1)
        top = array[rows, best]
        array[rows, best] = -np.inf
        other = array.argmax(axis=1)
        return best, top, other, array[rows, other]
    return two_best_on_device(score)


def two_best_on_device(score: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Find the two largest scores of each row by torch, and copy them to the host; see `two_best`."""
    values, places = score.max(dim=1, keepdim=True)
    score.scatter_(1, places, -torch.inf)
    following, others = score.max(dim=1)
    found = (places[:, 0], values[:, 0], others, following)
    return tuple(x.cpu().numpy() for x in found)


def _tie(length: np.ndarray, longest: float) -> np.ndarray:
    """(b, 1) difference of scores below which two centres count as equally near: what float64 cannot tell."""
    return (64 * np.finfo(np.float64).eps * (length * longest + longest**2))[:, None]


def _exact(block: np.ndarray, bank64: np.ndarray, half64: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """(b,) scores x c - |c|^2 / 2 in float64, for one centre of each row."""
    return np.einsum("nd,nd->n", block, bank64[chosen], dtype=np.float64) - half64[chosen]


def sums(features: np.ndarray, labels: np.ndarray, K: int) -> tuple[np.ndarray, np.ndarray]:
    """Add up the rows of each cluster, in their order.

    A sparse matrix of ones times a block of rows is several times as fast as `np.add.at`. It adds float32; blocks are
    added in float64, so that rounding does not grow with the number of rows.

    Args:
        features: (n, d) float32.
        labels: (n,) int64; negative ones count nowhere.
        K: clusters.

    Returns:
        (K, d) float64 sums and (K,) int64 counts.
    """
    (n, d), total = features.shape, np.zeros((K, features.shape[1]))
    one_each = 1 + BLOCK_BYTES // SUM_ROWS  # bytes a row with which a block is SUM_ROWS rows, as it is here
    blocks = in_blocks(_sums_of_rows, [features, labels], n, n * d * K, SUM_ROWS, one_each, {"K": K})
    if blocks is not None:
        parts = (found for _, found in blocks)
    else:
        parts = (_sums_of_rows(features, labels, start, start + SUM_ROWS, K) for start in range(0, n, SUM_ROWS))
    for present, part in parts:
        total[present] += part
    return total, np.bincount(labels[labels >= 0], minlength=K).astype(np.int64)


def _sums_of_rows(
    features: np.ndarray, labels: np.ndarray, start: int, stop: int, K: int
) -> tuple[np.ndarray, np.ndarray]:
    """Add up some rows: (p,) the clusters that have any, and (p, d) float32 their sums."""
    part = labels[start:stop]
    rows = np.flatnonzero(part >= 0)
    ones = csr_array((np.ones(len(rows), np.float32), (part[rows], rows)), shape=(K, len(part)))
    present = np.unique(part[rows])
    return present, (ones @ np.asarray(features[start:stop], dtype=np.float32))[present]


def means(features: np.ndarray, labels: np.ndarray, K: int) -> np.ndarray:
    """Compute the mean of each cluster: (K, d) float32, zero for a cluster without rows."""
    total, counts = sums(features, labels, K)
    return (total / np.maximum(counts, 1)[:, None]).astype(np.float32)


def renumbered(clusters: np.ndarray) -> np.ndarray:
    """Number clusters from 0 in the order of their first row; empty ones vanish, -1 (no label) stays.

    Args:
        clusters: (n,) int64.
    """
    result = np.full(len(clusters), -1, dtype=np.int64)
    known = clusters >= 0
    if known.any():
        _, first, inverse = np.unique(clusters[known], return_index=True, return_inverse=True)
        rank = np.empty(len(first), dtype=np.int64)
        rank[np.argsort(first)] = np.arange(len(first))
        result[known] = rank[inverse]
    return result
