"""First centres of k-means.

Legend: n images, d dimensions, K centres, m images drawn.
"""

from __future__ import annotations

import numpy as np
import torch

from reprise.clustering.blocks import each_block

SAMPLE = 10  # rows for each centre among which k-means++ chooses
AT_ONCE = 16  # centres for each that is drawn beside others
DRAWN_CELLS = 1 << 24  # distances held while several are drawn: 64 MiB of float32


def random_rows(features: np.ndarray, K: int, rng: np.random.Generator) -> np.ndarray:
    """Take K different rows at random, each once more where there are fewer rows than centres: (K, d) float32."""
    n = len(features)
    order = np.concatenate([rng.permutation(n) for _ in range(-(-K // n))])
    return np.asarray(features[order[:K]], dtype=np.float32)


def plus_plus(features: np.ndarray, K: int, rng: np.random.Generator, sample: int = SAMPLE) -> np.ndarray:
    """Draw first centres by k-means++ (Arthur and Vassilvitskii 2007): (K, d) float32.

    The candidates are `sample` * K rows drawn at random: a tenth of the rows for each centre serves as well as all, and
    the passes over them stay in the cache. Once there are many centres several are drawn at once (as in k-means||,
    Bahmani et al. 2012), one for every `AT_ONCE` that there are: two of them are seldom close to each other, and
    products of matrices are several times as fast. Where fewer rows differ than centres are asked for, rows repeat.

    Args:
        features: (n, d) float32.
        K: centres.
        rng: draws the candidates, then the centres.
        sample: candidates for each centre.
    """
    candidates = np.sort(rng.choice(len(features), size=min(len(features), sample * K), replace=False))
    x = np.ascontiguousarray(features[candidates], dtype=np.float32)
    chosen = np.empty(K, np.int64)
    # as one block, which one thread works on: float32 products that repeat whatever the number of threads
    each_block(lambda _: _choose(x - x.mean(axis=0), chosen, rng), [0])
    return x[chosen]


def _choose(x: np.ndarray, chosen: np.ndarray, rng: np.random.Generator) -> None:
    """Fill `chosen` (K,) with rows of `x` (m, d), which is centred so that the expanded squares cancel less.

    A row is drawn with a probability in proportion to its squared distance to the nearest row chosen before.
    """
    rows = torch.from_numpy(x)
    squared = np.einsum("md,md->m", x, x)
    closest = np.full(len(x), np.inf, np.float32)  # (m,) squared distance to the nearest row chosen so far
    last = np.array([rng.integers(len(x))])
    chosen[:1], count = last, 1
    while count < len(chosen):
        distance = torch.mm(rows[last], rows.T).numpy()  # |x|^2 + |c|^2 - 2 x c, in place
        distance *= -2
        distance += squared
        distance += squared[last, None]
        np.minimum(closest, np.maximum(distance.min(axis=0), 0), out=closest)
        closest[last] = 0  # exactly, so that no row is drawn twice
        cumulated = np.cumsum(closest, dtype=np.float64)
        several = max(1, min(count // AT_ONCE, DRAWN_CELLS // len(x)))
        draws = rng.random(min(several, len(chosen) - count))
        if cumulated[-1] > 0:
            drawn = np.searchsorted(cumulated, draws * cumulated[-1], side="right")
            last = np.unique(np.minimum(drawn, len(x) - 1))  # fewer than asked for, where two draws agree
        else:  # every row is a copy of a chosen one
            last = (draws * len(x)).astype(np.int64)
        chosen[count : count + len(last)] = last
        count += len(last)
