"""Clustering figures against scikit-learn, brute force and hand-made cases."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_score

from reprise.measures import cluster_quality


@pytest.mark.parametrize("seed", range(8))
def test_agreement_equals_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 5, 200)
    clusters = np.where(rng.random(200) < 0.6, labels, rng.integers(0, 7, 200))
    found = cluster_quality.agreement(clusters, labels)
    assert found["nmi"] == pytest.approx(normalized_mutual_info_score(labels, clusters), abs=1e-12)
    assert found["ari"] == pytest.approx(adjusted_rand_score(labels, clusters), abs=1e-12)


@pytest.mark.parametrize(
    ("clusters", "labels"),
    [
        ([0, 0, 0], [0, 0, 0]),
        ([0, 1, 2], [0, 1, 2]),
        ([0, 0, 0], [0, 1, 2]),
        ([0, 1, 2], [0, 0, 0]),
        ([3], [9]),
        ([0, 1], [1, 0]),
    ],
)
def test_degenerate_cases_equal_scikit_learn(clusters: list[int], labels: list[int]) -> None:
    found = cluster_quality.agreement(np.array(clusters), np.array(labels))
    assert found["nmi"] == pytest.approx(normalized_mutual_info_score(labels, clusters), abs=1e-12)
    assert found["ari"] == pytest.approx(adjusted_rand_score(labels, clusters), abs=1e-12)


def test_hungarian_accuracy_is_not_greedy() -> None:
    counts = np.array([[10, 9, 0], [9, 1, 0], [0, 0, 5]])
    assert cluster_quality.hungarian_accuracy(counts) * counts.sum() == pytest.approx(23)  # greedy pairing finds 16


@pytest.mark.parametrize("seed", range(5))
def test_hungarian_accuracy_equals_brute_force(seed: int) -> None:
    counts = np.random.default_rng(seed).integers(0, 20, (4, 6))
    best = max(sum(counts[i, p[i]] for i in range(4)) for p in permutations(range(6), 4))
    assert cluster_quality.hungarian_accuracy(counts) == pytest.approx(best / counts.sum())
    assert cluster_quality.hungarian_accuracy(counts.T) == pytest.approx(best / counts.sum())


def test_figures_do_not_depend_on_names_or_order_of_clusters() -> None:
    rng = np.random.default_rng(0)
    labels, clusters = rng.integers(0, 4, 100), rng.integers(0, 6, 100)
    renamed = np.array([40, 3, 17, 5, 99, 0])[clusters]
    order = rng.permutation(100)
    assert cluster_quality.agreement(renamed[order], labels[order]) == pytest.approx(
        cluster_quality.agreement(clusters, labels)
    )


def test_rows_without_label_are_left_out() -> None:
    clusters, labels = np.array([0, 0, 1, 1, -1, 0]), np.array([0, 0, 1, 1, 0, -1])
    assert cluster_quality.agreement(clusters, labels) == {"nmi": 1.0, "ari": 1.0, "accuracy": 1.0, "purity": 1.0}
    assert set(cluster_quality.agreement(clusters, np.full(6, -1)).values()) == {None}


def test_purity_by_hand() -> None:
    found = cluster_quality.agreement(np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 1]))
    assert found["purity"] == pytest.approx(4 / 5)


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        cluster_quality.contingency(np.zeros(3, int), np.zeros(4, int))


def test_sizes() -> None:
    assert cluster_quality.sizes_summary(np.array([0, 0, 1, 1, 5, 5])) == {
        "size_min": 2,
        "size_median": 2.0,
        "size_max": 2,
        "entropy": pytest.approx(1.0),
    }
    skewed = cluster_quality.sizes_summary(np.array([0] * 98 + [1, 2, -1]))
    assert skewed["size_max"] == 98
    assert 0 < skewed["entropy"] < 0.2
    assert cluster_quality.sizes_summary(np.array([-1, -1]))["size_min"] is None
    assert cluster_quality.sizes_summary(np.array([4, 4]))["entropy"] == 1.0


@pytest.mark.parametrize("seed", range(4))
def test_silhouette_equals_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    clusters = rng.integers(0, 6, 150)
    clusters[0] = 6  # a cluster of one
    features = rng.normal(size=(150, 8)) + clusters[:, None] + 100.0
    assert cluster_quality.silhouette(features, clusters) == pytest.approx(
        silhouette_score(features, clusters), abs=1e-9
    )


def test_silhouette_of_a_sample_is_seeded_and_close() -> None:
    rng = np.random.default_rng(0)
    clusters = rng.integers(0, 3, 3000)
    features = rng.normal(size=(3000, 4)) + 2 * clusters[:, None]
    first = cluster_quality.silhouette(features, clusters, sample=500, seed=1)
    assert first == cluster_quality.silhouette(features, clusters, sample=500, seed=1)
    assert first == pytest.approx(cluster_quality.silhouette(features, clusters, sample=3000), abs=0.05)


def test_silhouette_is_none_where_it_is_not_defined() -> None:
    x = np.eye(4)
    assert cluster_quality.silhouette(x, np.zeros(4, int)) is None
    assert cluster_quality.silhouette(x, np.arange(4)) is None
    assert cluster_quality.silhouette(x, np.full(4, -1)) is None
    assert cluster_quality.silhouette(np.zeros((4, 2)), np.array([0, 0, 1, 1])) == 0.0
