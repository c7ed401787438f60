"""The probe `equivariance`: planted features that turn, or that do not, and its figures restated naively."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.spatial.transform import Rotation
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

from reprise.artifacts.facts.table import Facts, objects, write_facts
from reprise.artifacts.layout import ALL_FACTS
from reprise.config.facts import Fact
from reprise.measures.geometry.quaternions import drawn, upright
from reprise.measures.ridge import ridge_path
from stages.probe.data import ProbeData
from stages.probe.probe import ProbeResult
from stages.probe.probes.factors.equivariance import (
    Equivariance,
    products,
    r_squared,
    ranks,
    turned,
    view_pairs,
)

if TYPE_CHECKING:
    from tests.stages.probe.conftest import Make

SIZES = {"train": 240, "val": 60, "test": 60}
EACH = 6
NAMES = [f"pose_{part}" for part in "wxyz"]


def poses(n: int = 360, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([drawn(rng, 90.0) for _ in range(n)])


def data_of(make: Make, features: np.ndarray, q: np.ndarray, **options: Any) -> ProbeData:
    """Six views of each object; rows of train, then val, then test."""

    def change(x: np.ndarray) -> None:
        x[:] = features

    options.setdefault("groups", lambda i: f"object {i // EACH}")
    made = make(**SIZES, d=features.shape[1], change=change, **options)
    keys = np.array(sorted(made._keys.tolist()), dtype=object)
    at = {key: i for i, key in enumerate(made._keys.tolist())}
    order = np.array([at[key] for key in keys])
    columns = {name: q[written(made)[order], k] for k, name in enumerate(NAMES)}
    ALL_FACTS.mkdir(parents=True, exist_ok=True)
    write_facts(ALL_FACTS, Facts(tuple(Fact(name, "number") for name in NAMES), objects(keys.tolist()), columns, {}))
    return ProbeData(Path("data/embeddings.parquet"), Path("data/manifest.parquet"))


def written(made: ProbeData) -> np.ndarray:
    """For each image of the data, the number in which `make` wrote it."""
    import hashlib

    n = sum(SIZES.values())
    number = {hashlib.sha256(f"0 {i}".encode()).hexdigest()[:24]: i for i in range(n)}
    return np.array([number[key] for key in made._keys.tolist()])


def run(data: ProbeData, **options: Any) -> ProbeResult:
    return Equivariance(Equivariance.Params(**options)).run(data)


def value(result: ProbeResult, name: str) -> float:
    return result.metrics[name].value


def test_features_that_turn_are_read_and_followed_and_features_that_do_not_are_not(make: Make) -> None:
    """The tail holds the pose under a fixed mixing, the head one vector for each object and a little noise."""
    rng, q = np.random.default_rng(0), poses()
    tail = q @ rng.normal(size=(4, 4)) + 3
    head = np.repeat(rng.normal(size=(60, 4)), EACH, axis=0) + 1e-3 * rng.normal(size=(360, 4))
    result = run(data_of(make, np.concatenate([head, tail], axis=1), q))
    assert value(result, "r2_tail") > 0.95
    assert abs(value(result, "r2_head")) < 0.1
    assert value(result, "r2") > 0.9
    chance = float(result.protocol["mrr by chance"])
    assert value(result, "mrr_tail") > 0.95 > value(result, "mrr_identity_tail")
    assert abs(value(result, "mrr_head") - chance) < 0.1
    assert value(result, "hit1_tail") > 0.9
    assert "hit5" not in result.metrics  # every one of five candidates is among the first five
    for figure in result.metrics.values():
        assert figure.low is not None and figure.high is not None
        assert figure.low <= figure.value <= figure.high


@pytest.mark.parametrize("frame", ["object", "camera"])
def test_matrices_of_the_pose_are_read_in_either_frame(make: Make, frame: str) -> None:
    q = poses()
    turning = Rotation.from_quat(q, scalar_first=True).as_matrix().reshape(-1, 9)
    result = run(data_of(make, turning, q), frame=frame, tail=0.0)
    assert value(result, "r2") > 0.9
    assert value(result, "mrr") > value(result, "mrr_identity") + 0.3
    assert set(result.metrics) == {"r2", "mrr", "mrr_identity", "hit1"}


def test_the_sign_of_a_pose_decides_nothing(make: Make, tmp_path: Path) -> None:
    q = poses()
    features = np.random.default_rng(1).normal(size=(360, 5)) + np.tile(q[:, :1], 5)
    signs = np.random.default_rng(2).choice([-1.0, 1.0], size=(360, 1))
    assert run(data_of(make, features, q)).metrics == run(data_of(make, features, q * signs)).metrics


def test_every_choice_is_made_on_train_and_val(make: Make) -> None:
    """Other poses of test change what is scored and no answer: the penalties stay."""
    q, rng = poses(), np.random.default_rng(3)
    features = np.concatenate([q + 0.3 * rng.normal(size=q.shape), rng.normal(size=(360, 3))], axis=1)
    other = q.copy()
    other[300:] = poses(60, seed=9)
    first, second = run(data_of(make, features, q)), run(data_of(make, features, other))
    assert first.protocol == second.protocol
    assert value(second, "r2") < value(first, "r2")


def test_figures_are_their_naive_restatements(make: Make) -> None:
    """One penalty, all pairs: loops, scipy's rotations and scikit-learn's ridge give the same figures."""
    rng, q = np.random.default_rng(4), poses()
    features = np.concatenate([q, rng.normal(size=(360, 2))], axis=1) @ rng.normal(size=(6, 6))
    features = features + 0.2 * rng.normal(size=features.shape)
    data = data_of(make, features.astype(np.float32), q)
    result = run(data, penalties=[0.1], tail=0.0, pairs=20_000, directions=6)
    known = {name: data.features(name).astype(float) for name in SIZES}
    mean = known["train"].mean(0)
    u, s, vt = np.linalg.svd(known["train"] - mean, full_matrices=False)
    z = {name: (x - mean) @ vt.T / (s / np.sqrt(len(u))) for name, x in known.items()}
    rows: dict[str, list[Any]] = {}
    for name, x in z.items():
        turn = Rotation.from_quat(np.stack([data.target(n, name) for n in NAMES], 1), scalar_first=True)
        groups = data.part(name).groups
        assert groups is not None
        found = []
        for i in range(len(x)):
            for j in range(len(x)):
                if i != j and groups[i] == groups[j]:
                    g = upright((turn[i].inv() * turn[j]).as_quat(scalar_first=True)[None])[0]
                    bilinear = [a * b for a in x[i] for b in x[j]]
                    found.append((i, j, g, [*x[i], *x[j], *bilinear], [a * b for a in g for b in [*x[i], 1]]))
        rows[name] = found
    read = {name: np.array([row[3] for row in found]) for name, found in rows.items()}
    g = {name: np.array([row[2] for row in found]) for name, found in rows.items()}
    middle, spread = read["train"].mean(0), read["train"].std(0)
    peer = Ridge(alpha=0.1 * len(g["train"])).fit((read["train"] - middle) / spread, g["train"])
    answers = peer.predict((read["test"] - middle) / spread)
    expected = r2_score(g["test"], answers, multioutput="variance_weighted")
    assert value(result, "r2") == pytest.approx(expected, abs=1e-6)
    inputs = {name: np.array([row[4] for row in found]) for name, found in rows.items()}
    size = np.sqrt((inputs["train"] ** 2).mean(0))
    targets = z["train"][[row[1] for row in rows["train"]]]
    follower = Ridge(alpha=0.1 * len(targets), fit_intercept=False).fit(inputs["train"] / size, targets)
    guesses, reciprocal, first = follower.predict(inputs["test"] / size), [], []
    groups = data.part("test").groups
    assert groups is not None
    for (i, j, *_), guess in zip(rows["test"], guesses, strict=True):
        others = [k for k in range(len(groups)) if groups[k] == groups[i] and k != i]
        cosine = {k: guess @ z["test"][k] / np.linalg.norm(guess) / np.linalg.norm(z["test"][k]) for k in others}
        place = sorted(others, key=lambda k, c=cosine: -c[k]).index(j) + 1  # type: ignore[misc]
        reciprocal.append(1 / place)
        first.append(place == 1)
    assert value(result, "mrr") == pytest.approx(np.mean(reciprocal), abs=1e-6)
    assert value(result, "hit1") == pytest.approx(np.mean(first), abs=1e-6)


def test_equal_similarities_share_a_rank() -> None:
    z = np.ones((4, 2))
    rank, rivals = ranks(np.ones((3, 2)), z, np.zeros(4, np.int64), np.array([[0, 1], [0, 2], [3, 1]]))
    assert rank.tolist() == [2.0, 2.0, 2.0]
    assert rivals.tolist() == [3.0, 3.0, 3.0]


def test_pairs_are_of_one_group_in_both_orders_and_drawn_where_they_are_many() -> None:
    groups = np.array([3, 1, 3, 1, 3, 7])
    pairs = view_pairs(groups, 100)
    assert {tuple(pair) for pair in pairs.tolist()} == {
        (i, j) for i in range(6) for j in range(6) if i != j and groups[i] == groups[j]
    }
    naive = [(i, j) for g in (1, 3, 7) for i in range(6) for j in range(6) if i != j and groups[i] == groups[j] == g]
    assert pairs.tolist() == [list(pair) for pair in naive]
    few = view_pairs(groups, 5)
    assert few.tolist() == pairs[np.sort(np.random.default_rng(0).choice(8, 5, replace=False))].tolist()
    assert len(few) == 5 and {tuple(p) for p in few.tolist()} <= {tuple(p) for p in pairs.tolist()}
    assert view_pairs(np.arange(4), 10).shape == view_pairs(np.arange(0), 10).shape == (0, 2)


def test_pairs_of_one_large_group_are_drawn_without_listing_them() -> None:
    """All 900 million would take 14 GB, and their inputs are bounded by the number of pairs."""
    tracemalloc.start()
    try:
        pairs = view_pairs(np.zeros(30_000, np.int64), 4000)
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()
    assert len({tuple(pair) for pair in pairs.tolist()}) == 4000
    assert (pairs[:, 0] != pairs[:, 1]).all() and pairs.max() > 29_000
    with pytest.raises(ValidationError):
        Equivariance.Params(pairs=20_001)


def test_inputs_and_r2_are_their_formulas() -> None:
    rng = np.random.default_rng(5)
    z, pairs, q = rng.normal(size=(5, 3)), np.array([[0, 1], [4, 2]]), rng.normal(size=(2, 4))
    found = products(z, pairs, 2)
    assert found.shape == (2, 3 + 3 + 4)
    assert found[1].tolist() == [
        *z[4],
        *z[2],
        z[4, 0] * z[2, 0],
        z[4, 0] * z[2, 1],
        z[4, 1] * z[2, 0],
        z[4, 1] * z[2, 1],
    ]
    assert turned(z[pairs[:, 0]], q)[1].tolist() == [a * b for a in q[1] for b in [*z[4], 1]]
    target, answers = rng.normal(size=(40, 4)), rng.normal(size=(40, 4))
    squared, weights = ((target - answers) ** 2).sum(1), rng.integers(0, 3, (3, 40)).astype(float)
    expected = [r2_score(target, answers, sample_weight=w, multioutput="variance_weighted") for w in weights]
    np.testing.assert_allclose(r_squared(squared, target, weights), expected, atol=1e-9)
    assert np.isnan(r_squared(squared, np.ones((40, 4)), weights)).all()


def test_ridge_of_several_targets_is_that_of_each_alone() -> None:
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(50, 4)) * [1, 10, 0.1, 1] + 5, rng.normal(size=(50, 3))
    standard = (x - x.mean(0)) / x.std(0)
    for penalty, weights, bias in ridge_path(x, y, [0.5, 0.01]):
        peer = Ridge(alpha=penalty * 50).fit(standard, y)
        np.testing.assert_allclose(x @ weights + bias, peer.predict(standard), atol=1e-8)
    size = np.sqrt((x**2).mean(0))
    ((_, weights, bias),) = ridge_path(x, y, [0.5], intercept=False)
    np.testing.assert_allclose(x @ weights, Ridge(alpha=25, fit_intercept=False).fit(x / size, y).predict(x / size))
    assert not bias.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quaternion": ["a", "pose_x", "pose_y", "pose_z"]}, "no fact 'a' is a number of each image"),
        ({}, None),
    ],
)
def test_what_is_missing_is_noted(make: Make, options: dict[str, Any], message: str | None) -> None:
    q = poses()
    data = data_of(make, np.ones((360, 3)) * q[:, :1], q if message else 2 * q)
    assert run(data, **options).protocol["note"] == f"not run: {message or 'the poses are no unit quaternions'}"
    alone = data_of(make, np.ones((360, 3)), q, groups=None)
    assert "no image belongs to a group" in run(alone).protocol["note"]
