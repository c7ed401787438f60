"""How good a clustering is: against labels (NMI, ARI, Hungarian accuracy, purity) and by itself (sizes, silhouette).

Arrays in, numbers out. Rows with a negative cluster or label (no label) are left out of every comparison. None
of these figures carries an interval: drawing examples with replacement makes duplicates, and duplicates bias
agreement upwards.

Legend: n examples, c clusters, l classes, `counts` (c, l) examples of class j in cluster i.
"""

from __future__ import annotations

import numpy as np


def contingency(clusters: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Count matrix of two labellings.

    Args:
        clusters, labels: (n,) integers; rows with a negative value in either are left out.

    Returns:
        (c, l) int64, rows and columns in increasing order of the values that occur.

    Raises:
        ValueError: lengths that differ.
    """
    clusters, labels = np.asarray(clusters), np.asarray(labels)
    if clusters.shape != labels.shape or clusters.ndim != 1:
        raise ValueError(f"clusters and labels must be of one length, got {clusters.shape} and {labels.shape}")
    known = (clusters >= 0) & (labels >= 0)
    rows, row = np.unique(clusters[known], return_inverse=True)
    columns, column = np.unique(labels[known], return_inverse=True)
    flat = np.bincount(row * max(len(columns), 1) + column, minlength=len(rows) * len(columns))
    return flat.reshape(len(rows), len(columns)).astype(np.int64)


def _entropy(counts: np.ndarray) -> float:
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum()) + 0.0  # + 0.0 turns -0.0 into 0.0


def normalised_mutual_information(counts: np.ndarray) -> float:
    """Return mutual information over the mean of the two entropies, in [0, 1]; 1 when both have one single part.

    Args:
        counts: (c, l) from `contingency`, not empty.
    """
    rows, columns = _entropy(counts.sum(1)), _entropy(counts.sum(0))
    if rows == 0 and columns == 0:
        return 1.0
    mutual = rows + columns - _entropy(counts.ravel())
    return float(np.clip(mutual / ((rows + columns) / 2), 0.0, 1.0))


def adjusted_rand_index(counts: np.ndarray) -> float:
    """Rand index corrected for chance (Hubert and Arabie 1985): 0 at random, 1 when identical, at least -0.5.

    Args:
        counts: (c, l) from `contingency`, not empty. Pair counts are exact integers.
    """

    def pairs(x: np.ndarray) -> int:
        return sum(int(v) * (int(v) - 1) // 2 for v in x.ravel())

    together, rows, columns = pairs(counts), pairs(counts.sum(1)), pairs(counts.sum(0))
    everything = pairs(counts.sum(keepdims=True))
    if everything == 0 or (rows == columns == everything) or (rows == columns == 0):
        return 1.0  # one example, one part each, or only singletons in both: identical
    expected = rows * columns / everything
    return float((together - expected) / ((rows + columns) / 2 - expected))


def hungarian_accuracy(counts: np.ndarray) -> float:
    """Share of examples that agree under the best one-to-one pairing of clusters and classes (Kuhn 1955).

    With more clusters than classes the clusters left over count as wrong, so this punishes over-clustering;
    `purity` does not.

    Args:
        counts: (c, l) from `contingency`, not empty.
    """
    from scipy.optimize import linear_sum_assignment

    row, column = linear_sum_assignment(counts, maximize=True)
    return float(counts[row, column].sum() / counts.sum())


def purity(counts: np.ndarray) -> float:
    """Share of examples in the commonest class of their cluster; 1 when every example is its own cluster."""
    return float(counts.max(axis=1).sum() / counts.sum())


def agreement(clusters: np.ndarray, labels: np.ndarray) -> dict[str, float | None]:
    """`nmi`, `ari`, `accuracy` (Hungarian) and `purity` of clusters against labels.

    Args:
        clusters, labels: (n,) integers; negative means none, and such rows are left out.

    Returns:
        The four figures; all None when no row has both.
    """
    counts = contingency(clusters, labels)
    if counts.sum() == 0:
        return {"nmi": None, "ari": None, "accuracy": None, "purity": None}
    return {
        "nmi": normalised_mutual_information(counts),
        "ari": adjusted_rand_index(counts),
        "accuracy": hungarian_accuracy(counts),
        "purity": purity(counts),
    }


def accuracy_by_class(clusters: np.ndarray, labels: np.ndarray, old: np.ndarray) -> dict[str, float | None]:
    """`accuracy_old` and `accuracy_new`: `hungarian_accuracy` apart for classes of which labels were known, and others.

    Clusters and classes are paired once, over all rows, as category discovery reports it (GCD, Vaze et al. 2022, and
    GPC): so the two are the parts of the one accuracy.

    Args:
        clusters, labels: (n,) integers; negative means none, and such rows are left out. old: the known classes.

    Returns:
        The two figures; None where no row is of such a class.
    """
    clusters, labels = np.asarray(clusters), np.asarray(labels)
    both = (clusters >= 0) & (labels >= 0)
    right = matched_clusters(labels[both], clusters[both]) == labels[both]
    known = np.isin(labels[both], old)
    return {
        name: float(right[rows].mean()) if rows.any() else None
        for name, rows in (("accuracy_old", known), ("accuracy_new", ~known))
    }


def sizes_summary(clusters: np.ndarray) -> dict[str, float | int | None]:
    """`size_min`, `size_median`, `size_max` of the clusters that occur, and `entropy` of their sizes.

    The entropy is divided by the logarithm of the number of clusters: 1 when all are of one size; 1 as well
    for a single cluster, which is all there is to share.

    Args:
        clusters: (n,) integers; negative means none.

    Returns:
        The four figures; all None when no row has a cluster.
    """
    clusters = np.asarray(clusters)
    _, sizes = np.unique(clusters[clusters >= 0], return_counts=True)
    if len(sizes) == 0:
        return {"size_min": None, "size_median": None, "size_max": None, "entropy": None}
    entropy = _entropy(sizes) / np.log(len(sizes)) if len(sizes) > 1 else 1.0
    return {
        "size_min": int(sizes.min()),
        "size_median": float(np.median(sizes)),
        "size_max": int(sizes.max()),
        "entropy": float(min(entropy, 1.0)),
    }


def silhouette(features: np.ndarray, clusters: np.ndarray, sample: int = 2000, seed: int = 0) -> float | None:
    """Mean silhouette coefficient with Euclidean distances (Rousseeuw 1987), on a seeded sample.

    Args:
        features: (n, d) floats. clusters: (n,) integers; negative means none, and such rows are left out.
        sample: at most this many rows, drawn without replacement. Memory grows with its square.

    Returns:
        A value in [-1, 1]; a cluster with a single row in the sample counts as 0. None with fewer than two
        clusters, or with one cluster per row, where it is not defined.
    """
    clusters = np.asarray(clusters)
    known = np.flatnonzero(clusters >= 0)
    if len(known) > sample:
        known = np.sort(np.random.default_rng(seed).choice(known, size=sample, replace=False))
    x = np.asarray(features)[known].astype(np.float64)
    names, index, sizes = np.unique(clusters[known], return_inverse=True, return_counts=True)
    n = len(x)
    if len(names) < 2 or len(names) == n:
        return None
    x = x - x.mean(axis=0)  # distances stay, cancellation shrinks
    squared = (x * x).sum(1)
    distances = np.sqrt(np.maximum(squared[:, None] + squared[None, :] - 2 * x @ x.T, 0.0))
    np.fill_diagonal(distances, 0.0)
    membership = np.zeros((n, len(names)))
    membership[np.arange(n), index] = 1.0
    totals = distances @ membership  # (n, c) sum of distances to each cluster
    own_size = sizes[index]
    inside = totals[np.arange(n), index] / np.maximum(own_size - 1, 1)
    means = totals / sizes
    means[np.arange(n), index] = np.inf
    outside = means.min(axis=1)
    largest = np.maximum(inside, outside)
    score = np.where((own_size > 1) & (largest > 0), (outside - inside) / np.where(largest > 0, largest, 1.0), 0.0)
    return float(score.mean())


def matched_clusters(reference: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """`clusters` under the names of `reference`, clusters paired one to one by the rows that they share.

    Args:
        reference, clusters: (n,) integers; negative means none.

    Returns:
        (n,) int64: the reference's name of each row's cluster; -1 without a cluster or a partner.
    """
    counts = contingency(reference, clusters)
    names = np.full(len(clusters), -1, dtype=np.int64)
    if not counts.size:
        return names
    from scipy.optimize import linear_sum_assignment

    both = (reference >= 0) & (clusters >= 0)
    row, column = linear_sum_assignment(counts, maximize=True)
    paired = counts[row, column] > 0
    new, old = np.unique(clusters[both])[column[paired]], np.unique(reference[both])[row[paired]]
    table = dict(zip(new.tolist(), old.tolist(), strict=True))
    return np.array([table.get(cluster, -1) for cluster in clusters.tolist()], dtype=np.int64)


def share_moved(before: np.ndarray, after: np.ndarray) -> float | None:
    """Share of rows that are not where their old cluster went, clusters paired one to one by the rows they share.

    Args:
        before, after: (n,) integers; rows with a negative value in either are left out. None when no row is left.
    """
    both = (before >= 0) & (after >= 0)
    if not both.any():
        return None
    return float((matched_clusters(before[both], after[both]) != before[both]).mean())


def _scatter(features: np.ndarray, clusters: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows with a cluster in float64, their cluster from 0, sizes and means."""
    known = np.flatnonzero(clusters >= 0)
    x = np.asarray(features)[known].astype(np.float64)
    _, index, sizes = np.unique(clusters[known], return_inverse=True, return_counts=True)
    centres = np.zeros((len(sizes), x.shape[1]))
    np.add.at(centres, index, x)
    return x, index, sizes, centres / sizes[:, None]


def calinski_harabasz(features: np.ndarray, clusters: np.ndarray) -> float | None:
    """Variance between clusters over variance within, each by its degrees of freedom; higher is better.

    Source: Calinski and Harabasz 1974.

    Args:
        features: (n, d). clusters: (n,) integers; negative means none, and such rows are left out.

    Returns:
        None with fewer than two clusters, one cluster per row, or no variance within.
    """
    x, index, sizes, centres = _scatter(features, np.asarray(clusters))
    n, c = len(x), len(sizes)
    if c < 2 or c >= n:
        return None
    within = float(((x - centres[index]) ** 2).sum())
    between = float((sizes * ((centres - x.mean(axis=0)) ** 2).sum(axis=1)).sum())
    return between / (c - 1) / (within / (n - c)) if within > 0 else None


def davies_bouldin(features: np.ndarray, clusters: np.ndarray) -> float | None:
    """Mean over clusters of the worst (spread + spread) / distance to another one; lower is better.

    Source: Davies and Bouldin 1979, with mean distances as spread.

    Args:
        features: (n, d). clusters: (n,) integers; negative means none, and such rows are left out.

    Returns:
        None with fewer than two clusters or where two of them have the same mean.
    """
    x, index, sizes, centres = _scatter(features, np.asarray(clusters))
    if len(sizes) < 2:
        return None
    spread = np.bincount(index, weights=np.sqrt(((x - centres[index]) ** 2).sum(axis=1))) / sizes
    squared = (centres**2).sum(axis=1)
    distance = np.sqrt(np.maximum(squared[:, None] + squared[None] - 2 * centres @ centres.T, 0.0))
    np.fill_diagonal(distance, np.inf)
    if distance.min() <= 0:
        return None
    return float(((spread[:, None] + spread[None]) / distance).max(axis=1).mean())


def right_by_majority(clusters: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Tell which examples have the commonest class of their cluster, the first of equally common ones: (n,) bool.

    Args:
        clusters, labels: (n,) integers; a row with a negative value in either is not right, and does not count.
    """
    clusters, labels = np.asarray(clusters), np.asarray(labels)
    known = (clusters >= 0) & (labels >= 0)
    right = np.zeros(len(clusters), dtype=bool)
    if known.any():
        classes, column = np.unique(labels[known], return_inverse=True)
        row = np.unique(clusters[known], return_inverse=True)[1]
        counts = np.bincount(row * len(classes) + column, minlength=(row.max() + 1) * len(classes))
        right[known] = counts.reshape(-1, len(classes)).argmax(axis=1)[row] == column
    return right


def auroc(scores: np.ndarray, positive: np.ndarray) -> float | None:
    """Compute the area under the ROC curve: how often a positive example scores above a negative one, ties half.

    Args:
        scores: (n,) finite. positive: (n,) bool.

    Returns:
        In [0, 1], 0.5 where scores tell nothing; None without positive or without negative examples.
    """
    from scipy.stats import rankdata

    positive = np.asarray(positive, dtype=bool)
    ups, downs = int(positive.sum()), int((~positive).sum())
    if not ups or not downs:
        return None
    ranks = rankdata(np.asarray(scores, dtype=np.float64))
    return float((ranks[positive].sum() - ups * (ups + 1) / 2) / (ups * downs))
