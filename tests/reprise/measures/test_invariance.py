"""Invariance and relation alignment: known maps, naive restatements, the optimum of a loss, intervals that cover."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import subspace_angles
from scipy.optimize import minimize
from scipy.spatial.distance import pdist, squareform

from reprise.measures import invariance, relations
from reprise.measures.statistics import bootstrap_mean


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 6)) + 100
    return x, x + 0.3 * rng.normal(size=x.shape)


def test_distances_restated(pair, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = pair
    monkeypatch.setattr(invariance, "_BLOCK", 130)
    assert invariance.apart(x) == pytest.approx(squareform(pdist(x)).sum(1) / 599, rel=1e-9)
    ratio, contributions = invariance.normalised_distance(invariance.moved(x, y), invariance.apart(x))
    assert ratio == pytest.approx(np.linalg.norm(x - y, axis=1).mean() / pdist(x).mean())
    assert contributions.mean() == pytest.approx(ratio)


def test_known_maps(pair) -> None:
    x, _ = pair
    apart = invariance.apart(x)
    assert invariance.normalised_distance(invariance.moved(x, x), apart)[0] == 0.0
    another = np.roll(x, 1, axis=0)  # as if the change made another image of it
    assert invariance.normalised_distance(invariance.moved(x, another), apart)[0] == pytest.approx(1.0, abs=0.05)
    with pytest.raises(ValueError, match="same features"):
        invariance.normalised_distance(np.zeros(4), invariance.apart(np.ones((4, 2))))
    with pytest.raises(ValueError, match="two rows"):
        invariance.apart(np.ones((1, 2)))


def test_invariant_to_rotation_and_scale(pair) -> None:
    x, y = pair
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))
    plain = invariance.normalised_distance(invariance.moved(x, y), invariance.apart(x))[0]
    turned = invariance.normalised_distance(
        invariance.moved(5 * x @ turn, 5 * y @ turn), invariance.apart(5 * x @ turn)
    )
    assert turned[0] == pytest.approx(plain)


def test_alignment_is_two_minus_twice_the_cosine(pair) -> None:
    x, y = pair
    cosine = (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    assert invariance.alignment(x, y) == pytest.approx(2 - 2 * cosine)
    assert invariance.alignment(x, -x) == pytest.approx(np.full(600, 4.0))


def test_interval_of_the_normalised_distance_covers() -> None:
    """The truth from many images; 300 worlds of 60 images, 95 % intervals; at least 91 % hold it."""
    rng = np.random.default_rng(2)

    def world(n: int) -> tuple[float, np.ndarray]:
        x = rng.normal(size=(n, 3)) * rng.gamma(2, 1, (n, 1))  # both parts of the ratio vary from image to image
        y = x + rng.normal(size=x.shape) * rng.gamma(1, 0.5, (n, 1))
        return invariance.normalised_distance(invariance.moved(x, y), invariance.apart(x))

    truth = float(np.mean([world(3000)[0] for _ in range(4)]))
    hits = 0
    for trial in range(300):
        low, high = bootstrap_mean(world(60)[1], resamples=400, seed=trial)
        hits += low <= truth <= high
    assert 0.91 < hits / 300 < 0.985


def test_captured_equals_the_angles_between_subspaces() -> None:
    rng = np.random.default_rng(3)
    x, groups = rng.normal(size=(80, 5)), rng.integers(0, 4, 80)
    directions = relations.leading_directions(x, 3)
    u = np.linalg.svd(x - x.mean(0), full_matrices=False)[0][:, :3]
    assert directions @ directions.T == pytest.approx(u @ u.T)
    indicators = np.eye(4)[groups] - np.eye(4)[groups].mean(0)
    basis = np.linalg.svd(indicators, full_matrices=False)[0][:, :3]
    assert relations.captured(directions, groups) == pytest.approx((np.cos(subspace_angles(u, basis)) ** 2).sum())


def test_the_optimum_of_a_vicreg_like_loss_scores_one() -> None:
    """Free embeddings under |Z'Z/N - I|^2 + g/N sum_ij G_ij |z_i - z_j|^2: the loss falls to 0 and the score is 1."""
    rng = np.random.default_rng(4)
    n, k, groups = 30, 3, np.arange(30) % 6
    graph = (groups[:, None] == groups) - np.eye(n)
    laplacian = np.diag(graph.sum(1)) - graph

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        z = flat.reshape(n, k)
        z = z - z.mean(0)
        off = z.T @ z / n - np.eye(k)
        value = (off**2).sum() + 2 * np.trace(z.T @ laplacian @ z) / n
        gradient = 4 * z @ off / n + 4 * laplacian @ z / n
        return value, (gradient - gradient.mean(0)).ravel()

    start = rng.normal(size=n * k)
    end = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 2000, "ftol": 1e-15, "gtol": 1e-10})
    assert end.fun == pytest.approx(0.0, abs=1e-8)
    assert relations.relation_alignment(end.x.reshape(n, k), groups, k)[0] == pytest.approx(1.0, abs=1e-6)
    assert relations.relation_alignment(start.reshape(n, k), groups, k)[0] < 0.5
    shuffled = [relations.relation_alignment(end.x.reshape(n, k), rng.permutation(groups), k)[0] for _ in range(200)]
    assert abs(np.mean(shuffled)) < 0.03  # random relations score 0 in the mean


def test_relations_that_say_nothing_are_refused() -> None:
    x = np.random.default_rng(5).normal(size=(10, 4))
    for groups in (np.zeros(10), np.arange(10)):
        with pytest.raises(ValueError, match="two groups"):
            relations.relation_alignment(x, groups, 2)
    with pytest.raises(ValueError, match="equal"):
        relations.relation_alignment(np.ones((10, 4)), np.arange(10) % 2, 2)
    with pytest.raises(ValueError, match="as many directions"):
        relations.relation_alignment(np.eye(4), np.array([0, 0, 1, 1]), 3)
