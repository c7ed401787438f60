"""Nearest centres, means and first centres of k-means, and what makes them the same on every number of threads.

Products of float32 are added up in an order that depends on threads and processor. So wherever the two best centres of
an image are closer than rounding can tell, they are compared in float64; sums over clusters are taken in the order of
the rows. What comes out then depends on the features only.

Legend: n images, d dimensions, K centres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_array

from reprise.clustering.blocks import each_block

CELLS = 1 << 20  # products held at once: 4 MiB of float32, which stays in the cache
SUM_ROWS = 1 << 16  # rows whose float32 sums go into one of float64
SAMPLE = 10  # rows for each centre among which k-means++ chooses
AT_ONCE = 16  # centres for each that is drawn beside others
DRAWN_CELLS = 1 << 24  # distances held while several are drawn: 64 MiB of float32


@dataclass(frozen=True)
class Nearest:
    """For each image: its centre, and the squared distances to it and to the second nearest.

    Attributes:
        centre: (n,) int64, the lowest number where two are equally near.
        squared, second: (n,) float32; `second` is infinite where there is one centre only.
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
    """1 - d1 / d2 in [0, 1] from distances to the nearest and second nearest centre; 0 where both are 0."""
    ratio = first / np.maximum(second, np.finfo(np.float32).tiny)
    return np.clip(np.where(second > 0, 1.0 - ratio, 0.0), 0.0, 1.0).astype(np.float32)


def nearest(features: np.ndarray, centres: np.ndarray, device: str | None = None) -> Nearest:
    """The nearest centre of each image by Euclidean distance, and how far it and the second one are.

    Args:
        features: (n, d) float32, also memory-mapped: rows are read in blocks. centres: (K, d) float32.
        device: where products are computed; None: `cuda` where there is one.
    """
    n = len(features)
    squared, second = np.empty(n, np.float32), np.full(n, np.inf, np.float32)
    return Nearest(_search(features, centres, device, squared, second), squared, second)


def nearest_centres(features: np.ndarray, centres: np.ndarray, device: str | None = None) -> np.ndarray:
    """(n,) int64: what `nearest` finds, without the distances and at less cost."""
    return _search(features, centres, device)


def _search(
    features: np.ndarray,
    centres: np.ndarray,
    device: str | None,
    squared: np.ndarray | None = None,
    second: np.ndarray | None = None,
) -> np.ndarray:
    """(n,) int64 nearest centres; fills `squared` and `second` where they are given."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    n, K = len(features), len(centres)
    middle = centres.astype(np.float64).mean(axis=0).astype(np.float32)  # distances stay, cancellation shrinks
    bank = torch.from_numpy(np.ascontiguousarray((centres - middle).T)).to(device)
    across64 = bank.cpu().double()
    bank64 = np.ascontiguousarray(across64.numpy().T)
    half64 = (bank64**2).sum(1) / 2
    half = torch.from_numpy(half64.astype(np.float32)).to(device)
    longest = float(np.sqrt(2 * half64.max())) if K else 0.0
    unit = 4 * (features.shape[1] + 4) ** 0.5 * float(np.finfo(np.float32).eps)  # rounding: stages/measures/neighbours
    centre = np.empty(n, np.int64)
    step = max(1, CELLS // K)

    def work(start: int) -> None:
        block = np.asarray(features[start : start + step], dtype=np.float32) - middle
        rows = np.arange(len(block))
        product = torch.addmm(half, torch.from_numpy(block).to(device), bank, beta=-1).cpu().numpy()
        best = product.argmax(axis=1)  # larger is nearer: x c - |c|^2 / 2
        first64 = _exact(block, bank64, half64, best) if squared is not None else np.empty(len(block))
        second64 = np.full(len(block), -np.inf)
        if K > 1:
            top = product[rows, best]
            product[rows, best] = -np.inf
            other = product.argmax(axis=1)
            if second is not None:
                second64 = _exact(block, bank64, half64, other)
            length = np.sqrt(np.einsum("nd,nd->n", block, block))
            unsure = np.flatnonzero(top - product[rows, other] <= 2 * unit * (length * longest + longest**2))
            for part in np.array_split(unsure, max(1, -(-len(unsure) * K // CELLS))):
                exact = torch.mm(torch.from_numpy(block[part]).double(), across64).numpy() - half64
                most = exact.max(axis=1, keepdims=True)
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


def _tie(length: np.ndarray, longest: float) -> np.ndarray:
    """Below this two centres count as equally near, and the lower number wins: what float64 cannot tell."""
    return (64 * np.finfo(np.float64).eps * (length * longest + longest**2))[:, None]


def _exact(block: np.ndarray, bank64: np.ndarray, half64: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """(b,) x c - |c|^2 / 2 in float64 for one centre of each row."""
    return np.einsum("nd,nd->n", block, bank64[chosen], dtype=np.float64) - half64[chosen]


def sums(features: np.ndarray, labels: np.ndarray, K: int) -> tuple[np.ndarray, np.ndarray]:
    """(K, d) float64 sums of the rows of each cluster and (K,) int64 counts; negative labels count nowhere."""
    total = np.zeros((K, features.shape[1]))
    for start in range(0, len(features), SUM_ROWS):
        part = labels[start : start + SUM_ROWS]
        rows = np.flatnonzero(part >= 0)
        ones = csr_array((np.ones(len(rows), np.float32), (part[rows], rows)), shape=(K, len(part)))
        total += ones @ np.asarray(features[start : start + SUM_ROWS], dtype=np.float32)
    return total, np.bincount(labels[labels >= 0], minlength=K).astype(np.int64)


def means(features: np.ndarray, labels: np.ndarray, K: int) -> np.ndarray:
    """(K, d) float32 means; zero for a cluster without rows."""
    total, counts = sums(features, labels, K)
    return (total / np.maximum(counts, 1)[:, None]).astype(np.float32)


def unit(rows: np.ndarray) -> np.ndarray:
    """(n, d) float32 rows of length one; zero rows stay zero."""
    length = np.sqrt(np.einsum("nd,nd->n", rows, rows, dtype=np.float64))[:, None]
    return (rows / np.where(length > 0, length, 1.0)).astype(np.float32)


def plus_plus(features: np.ndarray, K: int, rng: np.random.Generator, sample: int = SAMPLE) -> np.ndarray:
    """k-means++ (Arthur and Vassilvitskii 2007) among `sample` * K rows drawn at random: (K, d) float32.

    A tenth of the rows for each centre serves as well as all, and the passes stay in the cache. Once there are many
    centres several are drawn at once (as in k-means||, Bahmani et al. 2012), one for `AT_ONCE` that there are: two of
    them seldom lie side by side, and products of matrices are several times as fast. Where fewer rows differ than
    centres are asked for, the rest repeats rows.
    """
    drawn = np.sort(rng.choice(len(features), size=min(len(features), sample * K), replace=False))
    x = np.ascontiguousarray(features[drawn], dtype=np.float32)
    chosen = np.empty(K, np.int64)
    each_block(lambda _: _choose(x - x.mean(axis=0), chosen, rng), [0])  # one thread: products that repeat
    return x[chosen]


def _choose(x: np.ndarray, chosen: np.ndarray, rng: np.random.Generator) -> None:
    """Fill `chosen` with rows of (m, d) centred `x`, one after the other or several at once."""
    rows = torch.from_numpy(x)
    squared = np.einsum("md,md->m", x, x)
    closest = np.full(len(x), np.inf, np.float32)
    last = np.array([rng.integers(len(x))])
    chosen[:1], count = last, 1
    while count < len(chosen):
        distance = torch.mm(rows[last], rows.T).numpy()
        distance *= -2
        distance += squared
        distance += squared[last, None]
        np.minimum(closest, np.maximum(distance.min(axis=0), 0), out=closest)
        closest[last] = 0
        cumulated = np.cumsum(closest, dtype=np.float64)
        several = max(1, min(count // AT_ONCE, DRAWN_CELLS // len(x)))
        draws = rng.random(min(several, len(chosen) - count))
        if cumulated[-1] > 0:
            drawn = np.searchsorted(cumulated, draws * cumulated[-1], side="right")
            last = np.unique(np.minimum(drawn, len(x) - 1))
        else:
            last = (draws * len(x)).astype(np.int64)
        chosen[count : count + len(last)] = last
        count += len(last)


def renumbered(clusters: np.ndarray) -> np.ndarray:
    """Clusters numbered from 0 in the order of their first row; empty ones vanish, -1 (no label) stays."""
    result = np.full(len(clusters), -1, dtype=np.int64)
    known = clusters >= 0
    if known.any():
        _, first, inverse = np.unique(clusters[known], return_index=True, return_inverse=True)
        rank = np.empty(len(first), dtype=np.int64)
        rank[np.argsort(first)] = np.arange(len(first))
        result[known] = rank[inverse]
    return result
