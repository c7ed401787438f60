"""Intrinsic dimension on shapes whose dimension is known, against naive restatements, and at its edges."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from stages.probe.probes.label_free import intrinsic


def shape(kind: str, d: int, n: int = 2000, room: int = 40, seed: int = 0) -> np.ndarray:
    """n points of a d-dimensional shape, turned into `room` dimensions."""
    rng = np.random.default_rng(seed)
    if kind == "gaussian":
        x = rng.normal(size=(n, d))
    elif kind == "sphere":
        x = rng.normal(size=(n, d + 1))
        x /= np.linalg.norm(x, axis=1, keepdims=True)
    else:  # a bent sheet: each coordinate and its sine
        x = rng.normal(size=(n, d))
        x = np.hstack([x, np.sin(x)])
    turn, _ = np.linalg.qr(rng.normal(size=(room, room)))
    return x @ turn[: x.shape[1]]


@pytest.mark.parametrize("d", [1, 2, 5, 10])
@pytest.mark.parametrize("kind", ["gaussian", "sphere", "bent"])
def test_known_dimensions_are_found_within_fifteen_percent(kind: str, d: int) -> None:
    distances = intrinsic.neighbour_distances(shape(kind, d), 20)
    assert intrinsic.maximum_likelihood(distances) == pytest.approx(d, rel=0.15)
    assert intrinsic.two_nn(distances) == pytest.approx(d, rel=0.15)


def test_distances_equal_a_tree_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intrinsic, "_BLOCK", 37)
    x = shape("gaussian", 5, 300) + 1e4  # far from the origin, where a product loses digits
    expected, _ = cKDTree(x).query(x, k=8)
    assert intrinsic.neighbour_distances(x, 7) == pytest.approx(expected[:, 1:], rel=1e-9)


def test_estimators_restated() -> None:
    t = intrinsic.neighbour_distances(shape("gaussian", 3, 200), 6)
    each = [np.mean([np.log(row[-1] / row[j]) for j in range(5)]) for row in t]
    assert intrinsic.maximum_likelihood(t) == pytest.approx(1 / np.mean(each))
    mu = np.sort(t[:, 1] / t[:, 0])[:180]
    slope = np.linalg.lstsq(np.log(mu)[:, None], -np.log(1 - np.arange(1, 181) / 200), rcond=None)[0]
    assert intrinsic.two_nn(t) == pytest.approx(float(slope[0]))


def test_invariant_to_rotation_scale_and_place() -> None:
    x = shape("sphere", 4, 500)
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(40, 40)))
    plain, moved = (intrinsic.neighbour_distances(y, 10) for y in (x, 3 * x @ turn + 7))
    for estimate in (intrinsic.maximum_likelihood, intrinsic.two_nn):
        assert estimate(moved) == pytest.approx(estimate(plain), rel=1e-8)


def test_copies_bias_so_they_are_refused_and_left_out() -> None:
    """Why there is no bootstrap interval: drawing with replacement puts points at distance zero."""
    x = shape("gaussian", 5, 400)
    drawn = x[np.random.default_rng(2).integers(0, 400, 400)]
    with pytest.raises(ValueError, match="distance zero"):
        intrinsic.two_nn(intrinsic.neighbour_distances(drawn, 2))
    assert len(intrinsic.distinct_rows(drawn)) == len({tuple(row) for row in drawn}) < 300


def test_edges() -> None:
    for k, n in ((0, 5), (5, 5)):
        with pytest.raises(ValueError, match="rows"):
            intrinsic.neighbour_distances(np.eye(n), k)
    with pytest.raises(ValueError, match="two neighbours"):
        intrinsic.maximum_likelihood(np.ones((4, 1)))
    simplex = intrinsic.neighbour_distances(np.eye(12), 3)  # every distance is the same: no finite dimension
    assert intrinsic.maximum_likelihood(np.round(simplex, 12)) == intrinsic.two_nn(np.round(simplex, 12)) == np.inf
