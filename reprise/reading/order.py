"""Batches as a pure function of (seed, epoch): every image once an epoch, m = ceil(n / B) batches whose sizes
differ by at most one.

`guided_batches` is the heart of G-SimCLR (Chakraborty et al. 2020): images of one pseudo-class should not meet
in a batch, where a contrastive loss would push them apart. The published code cuts the ranks within clusters
into consecutive batches, once and for all epochs; with unequal clusters most batches then repeat a cluster.
Here each cluster of c images gives floor(c / m) to every batch and its remainder to the least filled batches,
ties at random. So no two images of a cluster meet exactly when the largest cluster has at most m images, and
otherwise the number of meetings is the smallest possible, spread evenly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from reprise.artifacts.labels.label_sets import NO_LABEL

OneByOne = Literal["random", "guided", "rank"]  # every image once an epoch
Sampling = Literal[OneByOne, "partners"]  # images beside their partners: reprise/reading/partners.py
_BLOCK = 1 << 20  # images whose clusters are numbered at a time


def batch_count(n: int, batch_size: int) -> int:
    """m = ceil(n / B)."""
    return -(-n // batch_size)


def global_batches(
    sampling: OneByOne, clusters: np.ndarray, batch_size: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Draw the global batches of one epoch.

    Args:
        sampling: `random`, `guided` (clusters kept apart) or `rank` (as published; the same `rng` state every epoch).
        clusters: (n,) int64, NO_LABEL (-1) for none.
        batch_size: B, images in a batch at most.
        rng: of this epoch.

    Returns:
        m arrays of image positions (int64), each image once.
    """
    if sampling == "guided":
        return guided_batches(clusters, batch_size, rng)
    if sampling == "rank":
        return rank_batches(clusters, batch_size, rng)
    return random_batches(len(clusters), batch_size, rng)


def random_batches(n: int, batch_size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """A random permutation of n images in m batches whose sizes differ by at most one.

    Returns:
        m arrays of image positions (int64).
    """
    return np.array_split(rng.permutation(n), batch_count(n, batch_size))


def guided_batches(clusters: np.ndarray, batch_size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Batches in which images of one cluster meet as seldom as possible.

    Args:
        clusters: (n,) int64; NO_LABEL (-1) stands for itself.
        batch_size: B.

    Returns:
        m arrays of image positions (int64), each image once, sizes differing by at most one, in random order.
    """
    return spread(clusters, batch_count(len(clusters), batch_size), rng)


def spread(clusters: np.ndarray, m: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Draw guided batches of a stated number.

    Args:
        clusters: (n,) int64; NO_LABEL (-1) stands for itself.
        m: of batches.

    Returns:
        As `guided_batches`.
    """
    # Arrays are dropped as soon as they have served, and numbers take four bytes where they suffice: of very many
    # images this is what a process needs most.
    n = len(clusters)
    group, count = _groups(clusters)
    # Shuffled images, grouped by cluster, the clusters in random order.
    shuffled = rng.permutation(n).astype(group.dtype)
    rank = rng.permutation(count).astype(group.dtype)
    group = rank[group][shuffled]
    sizes = np.bincount(group, minlength=count)
    ordered = shuffled[np.argsort(group, kind="stable")]
    del shuffled, group

    # "Least filled, ties at random" is a walk through a random permutation of the batches, then through another.
    batch_of = np.empty(n, ordered.dtype)  # for positions in `ordered`
    walk, start = rng.permutation(m), 0
    for size in sizes:
        full, rest = divmod(int(size), m)
        chosen = walk[:rest]
        if rest > len(walk):  # the walk ends inside this cluster: batches that it just used wait until the next cluster
            new = rng.permutation(m)
            fresh = new[~np.isin(new, walk)]
            extra = fresh[: rest - len(walk)]
            chosen = np.concatenate([walk, extra])
            walk = new[~np.isin(new, extra)]
        else:
            walk = walk[rest:]
        batch_of[start : start + full * m] = np.tile(np.arange(m, dtype=ordered.dtype), full)
        batch_of[start + full * m : start + size] = chosen
        start += size
    ordered = ordered[np.argsort(batch_of, kind="stable")]
    counts = np.bincount(batch_of, minlength=m)
    del batch_of
    batches = np.split(ordered.astype(np.int64), np.cumsum(counts)[:-1])
    return [batches[b] for b in rng.permutation(m)]


def _groups(clusters: np.ndarray) -> tuple[np.ndarray, int]:
    """Number the clusters of which there are images; an image without a label is a cluster of its own.

    Returns:
        (n,) int32, or int64 of very many images, and how many there are: first images without a label, the last one
        first, then clusters in ascending order.
    """
    n = len(clusters)
    blocks = [slice(start, start + _BLOCK) for start in range(0, n, _BLOCK)]
    named = np.unique(np.concatenate([np.zeros(0, clusters.dtype), *(np.unique(clusters[block]) for block in blocks)]))
    named = named[named != NO_LABEL]
    alone = np.flatnonzero(clusters == NO_LABEL)
    group = np.empty(n, np.int32 if n < 1 << 31 else np.int64)
    for block in blocks:
        group[block] = np.searchsorted(named, clusters[block]) + len(alone)
    group[alone] = np.arange(len(alone))[::-1]
    return group, len(alone) + len(named)


def rank_batches(clusters: np.ndarray, batch_size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """The published order, to compare with: images sorted by their rank within the cluster, cut into batches.

    Call it with the same `rng` state in every epoch, as the published code never reshuffles. The first m0 batches
    repeat no cluster, m0 being the size of the smallest one, if there are B clusters; later ones do.
    """
    n = len(clusters)
    shuffled = rng.permutation(n)
    group = np.where(clusters == NO_LABEL, n + np.arange(n), clusters)[shuffled]
    by_cluster = np.argsort(group, kind="stable")
    _, starts, sizes = np.unique(group[by_cluster], return_index=True, return_counts=True)
    rank = np.arange(n) - np.repeat(starts, sizes)
    return np.array_split(shuffled[by_cluster[np.argsort(rank, kind="stable")]], batch_count(n, batch_size))


@dataclass(frozen=True)
class Conflicts:
    """How often images of one cluster met in the batches of one epoch.

    Attributes:
        pairs: pairs of images of one cluster in one batch.
        share_affected: share of all images that had such a partner.
        batches: m.
        largest: size of the largest cluster; no conflict is possible exactly when it is at most m.
    """

    pairs: int
    share_affected: float
    batches: int
    largest: int


def conflicts(clusters: np.ndarray, batches: list[np.ndarray]) -> Conflicts:
    """Count the meetings of images of one cluster; unlabelled images never conflict."""
    pairs = affected = 0
    for batch in batches:
        labels = clusters[batch]
        _, counts = np.unique(labels[labels != NO_LABEL], return_counts=True)
        pairs += int((counts * (counts - 1) // 2).sum())
        affected += int(counts[counts > 1].sum())
    labelled = clusters[clusters != NO_LABEL]
    largest = int(np.unique(labelled, return_counts=True)[1].max()) if len(labelled) else 0
    return Conflicts(pairs, affected / max(1, len(clusters)), len(batches), largest)


def fewest_pairs(sizes: np.ndarray, m: int) -> int:
    """The fewest conflicting pairs that clusters of these sizes can have in m batches: each spread evenly."""
    full, rest = np.divmod(sizes, m)
    return int((rest * full * (full + 1) // 2 + (m - rest) * full * (full - 1) // 2).sum())
