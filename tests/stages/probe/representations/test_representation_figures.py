"""Figures of the comparison of representations: invariances, naive restatements, peers, planted answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import procrustes as scipy_procrustes
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr
from sklearn.cluster import SpectralClustering
from sklearn.linear_model import Lasso, Ridge
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

from stages.probe.probes.representations import compatibility, matching, neighbourhood, similarity, stitching
from tests.paired_representations import paired, rotation


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    return paired()


# ---- similarity -------------------------------------------------------------------------------------------


def rsa(x: np.ndarray, y: np.ndarray) -> float:
    """Representational similarity analysis, as the probe computes it."""
    return similarity.rank_correlation(similarity.distance_ranks(x), similarity.distance_ranks(y))


@pytest.mark.parametrize("measure", [rsa, similarity.procrustes])
def test_invariances(pair, measure) -> None:
    x, y = pair
    assert measure(x, x) == pytest.approx(1.0)
    assert measure(x, 3 * x @ rotation(7) + 11) == pytest.approx(1.0)
    assert measure(x, y) == pytest.approx(measure(2 * x @ rotation(7) - 4, y), rel=1e-6)
    assert measure(x, y) == pytest.approx(measure(y, x))
    assert measure(x, x @ np.diag([9.0, 1, 1, 1, 1, 1, 0.1])) < 0.999  # not to any invertible map
    assert measure(x, np.ones((120, 2))) == 0.0


def test_rsa_and_procrustes_equal_scipy(pair) -> None:
    x, y = pair
    assert rsa(x, y) == pytest.approx(spearmanr(pdist(x), pdist(y)).statistic)
    padded = np.hstack([x, np.zeros((120, 3))])  # scipy wants equal widths; its disparity is 1 - similarity squared
    assert similarity.procrustes(x, y) ** 2 == pytest.approx(1 - scipy_procrustes(padded, y)[2])


def test_mutual_neighbours_by_hand() -> None:
    a, b = np.array([[1, 2], [0, 2], [0, 1]]), np.array([[2, 1], [3, 2], [3, 4]])
    assert neighbourhood.mutual_neighbours(a, b) == pytest.approx((2 + 1 + 0) / 6)
    assert neighbourhood.mutual_neighbours(a, a) == 1.0


# ---- matching ---------------------------------------------------------------------------------------------


def test_permuted_units_are_matched_exactly(pair) -> None:
    x, _ = pair
    order = np.random.default_rng(2).permutation(7)
    c = matching.correlations(x, 3 * x[:, order] + 1)
    assert matching.one_to_one(c) == pytest.approx(np.ones(7))
    assert c.argmax(axis=1)[order] == pytest.approx(np.arange(7))
    assert matching.one_to_one(matching.correlations(x, x @ rotation(7))).mean() < 0.95  # units, not information


def test_correlations_equal_numpy_and_dead_units_are_zero(pair) -> None:
    x, y = pair
    assert matching.correlations(x, y) == pytest.approx(np.corrcoef(x.T, y.T)[:7, 7:])
    x[:, 2] = 4.0
    assert (matching.correlations(x, y)[2] == 0).all()


def test_semi_matching_is_never_below_one_to_one(pair) -> None:
    for seed in range(20):
        c = np.random.default_rng(seed).uniform(-1, 1, (6, 6 + seed % 3))
        assert matching.semi_matching(c).mean() >= matching.one_to_one(c).mean()


def test_sparse_prediction_equals_lasso_and_finds_a_planted_mixture(pair) -> None:
    _, y = pair
    y = matching.standardised(y)
    x = np.stack([0.8 * y[:, 1] + 0.6 * y[:, 4], y[:, 7]], axis=1)
    explained, used = matching.sparse_prediction(x, y, 0.05)
    for unit in range(2):
        target = matching.standardised(x)[:, unit]
        peer = Lasso(alpha=0.05, tol=1e-10, max_iter=100_000).fit(y, target)
        assert explained[unit] == pytest.approx(peer.score(y, target), abs=1e-4)
        assert used[unit] == (np.abs(peer.coef_) > 1e-7).sum()
    independent = np.random.default_rng(3).normal(size=(4000, 8))
    mixture = (independent[:, 2] + independent[:, 5])[:, None]
    explained, used = matching.sparse_prediction(mixture, independent, 0.1)
    assert used == [2]
    assert explained[0] > 0.95
    assert matching.sparse_prediction(np.ones((50, 1)), y[:50], 0.1)[0] == [0.0]


def test_spectral_clusters_find_planted_groups_as_scikit_learn_does() -> None:
    rng = np.random.default_rng(4)
    sources = rng.normal(size=(300, 3))
    member = np.repeat(np.arange(3), 4)
    x, y = (sources[:, member] + 0.3 * rng.normal(size=(300, 12)) for _ in range(2))
    c = matching.correlations(x, y)
    found = matching.spectral_clusters(c, 3)
    assert adjusted_rand_score(np.tile(member, 2), found) == 1.0
    graph = np.zeros((24, 24))
    graph[:12, 12:], graph[12:, :12] = np.abs(c), np.abs(c).T
    peer = SpectralClustering(3, affinity="precomputed", assign_labels="cluster_qr", random_state=0).fit(graph)
    assert adjusted_rand_score(peer.labels_, found) == 1.0
    assert matching.modularity(c, found) > 0.5
    assert abs(matching.modularity(c, np.zeros(24))) < 1e-12
    assert matching.modularity(c, rng.permutation(found)) < 0.2
    assert matching.modularity(c * 0, found) == 0.0


def test_modularity_restated() -> None:
    rng = np.random.default_rng(5)
    c, labels = rng.uniform(-1, 1, (4, 5)), rng.integers(0, 3, 9)
    a = np.zeros((9, 9))
    a[:4, 4:], a[4:, :4] = np.abs(c), np.abs(c).T
    k, total = a.sum(0), a.sum()
    same = labels[:, None] == labels
    assert matching.modularity(c, labels) == pytest.approx(((a - np.outer(k, k) / total) * same).sum() / total)


# ---- relative representations -----------------------------------------------------------------------------


def test_relative_features_do_not_change_under_rotation_scale_and_translation(pair) -> None:
    x, _ = pair
    moved = 4 * x @ rotation(7) + 100
    assert stitching.relative(moved, moved[:30]) == pytest.approx(stitching.relative(x, x[:30]), abs=1e-10)
    stretched = x @ np.diag([5.0, 1, 1, 1, 1, 1, 1])
    assert np.abs(stitching.relative(stretched, stretched[:30]) - stitching.relative(x, x[:30])).max() > 0.1


def test_relative_features_restated(pair) -> None:
    x, _ = pair
    middle = x[:10].mean(0)
    value = (x[3] - middle) @ (x[7] - middle) / np.linalg.norm(x[3] - middle) / np.linalg.norm(x[7] - middle)
    assert stitching.relative(x, x[:10])[3, 7] == pytest.approx(value)
    assert stitching.relative(np.array([x[:10].mean(0)]), x[:10]) == pytest.approx(np.zeros((1, 10)), abs=1e-6)


def test_ridge_classifier_equals_scikit_learn(pair) -> None:
    x, _ = pair
    labels = (x[:, 0] > np.median(x[:, 0])).astype(int) + (x[:, 1] > np.median(x[:, 1]))
    found = stitching.RidgeClassifier(x, labels, 3, 0.1)
    z = (x - x.mean(0)) / x.std(0)
    peer = Ridge(alpha=0.1 * len(x)).fit(z, np.eye(3)[labels])
    assert found.weights == pytest.approx(peer.coef_.T)
    assert (found.predict(x) == peer.predict(z).argmax(1)).all()


# ---- compatibility ----------------------------------------------------------------------------------------


def test_ac_and_am_of_a_hand_made_matrix() -> None:
    c = np.array([[0.5, 9.0, 9.0], [0.6, 0.7, 9.0], [0.5, 0.8, 0.9]])
    # pairs (1,0): 0.6 > 0.5 yes; (2,0): 0.5 > 0.5 no, strict; (2,1): 0.8 > 0.7 yes
    assert compatibility.average_compatibility(c) == pytest.approx(2 / 3)
    assert compatibility.average_matrix(c) == pytest.approx((0.5 + 0.6 + 0.7 + 0.5 + 0.8 + 0.9) / 6)
    c[2, 0] = 0.0
    assert compatibility.average_matrix(c) == pytest.approx((0.5 + 0.6 + 0.7 + 0.8 + 0.9) / 5)
    assert compatibility.average_matrix(np.zeros((2, 2))) == 0.0
    for wrong in (np.ones((1, 1)), np.ones((2, 3))):
        with pytest.raises(ValueError, match="square"):
            compatibility.average_compatibility(wrong)


def test_cross_test_equals_scikit_learn(pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compatibility, "_BLOCK", 11)
    x, _ = pair
    labels = np.random.default_rng(6).integers(2, 6, 90)
    gallery, queries = x[:90], x[90:]
    peer = KNeighborsClassifier(1, metric="cosine", algorithm="brute").fit(gallery, labels)
    assert (compatibility.nearest_example(queries, gallery, labels) == peer.predict(queries)).all()
    unit = gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
    means = NearestCentroid().fit(unit, labels).centroids_
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    expected = np.unique(labels)[(queries @ means.T).argmax(1)]
    assert (compatibility.nearest_mean(queries, gallery, labels) == expected).all()
