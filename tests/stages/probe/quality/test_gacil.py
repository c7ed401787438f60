"""The incremental ridge classifier against joint training and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from stages.probe.probes.quality.gacil import IncrementalRidge, joint


def data(n: int = 300, d: int = 40, classes: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = rng.integers(0, classes, n) * 10
    return rng.normal(size=(n, d)) * np.logspace(-1, 1, d) + (y[:, None] == 10 * np.arange(d)), y


def weights_after(x: np.ndarray, y: np.ndarray, order: np.ndarray, batch: int, gamma: float) -> np.ndarray:
    model = IncrementalRidge(x.shape[1], gamma)
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        model.update(x[rows], y[rows])
    return model.weight[:, np.argsort(model.classes)]


@pytest.mark.parametrize("gamma", [10.0, 0.1, 1e-3])
@pytest.mark.parametrize("batch", [1, 7, 300])
def test_any_batches_in_any_order_equal_joint_training(batch: int, gamma: float) -> None:
    x, y = data()
    expected = joint(x, (y[:, None] == np.unique(y)).astype(float), gamma)
    rng = np.random.default_rng(batch)
    for order in (np.argsort(y, kind="stable"), rng.permutation(len(y))):  # a class after the other, and mixed
        found = weights_after(x, y, order, batch, gamma)
        assert np.abs(found - expected).max() < 1e-6 * np.abs(expected).max()


def test_joint_equals_scikit_learn() -> None:
    x, y = data()
    target = (y[:, None] == np.unique(y)).astype(float)
    peer = Ridge(alpha=0.3, fit_intercept=False, solver="svd").fit(x, target)
    assert joint(x, target, 0.3) == pytest.approx(peer.coef_.T, rel=1e-8, abs=1e-10)


def test_classes_not_seen_yet_have_no_column() -> None:
    x, y = data()
    model = IncrementalRidge(x.shape[1], 1.0)
    model.update(x[y == 30], y[y == 30])
    assert model.classes.tolist() == [30]
    model.update(x[y == 10], y[y == 10])
    assert model.classes.tolist() == [30, 10]
    assert model.weight.shape == (40, 2)


def test_gamma_must_be_positive() -> None:
    with pytest.raises(ValueError, match="above 0"):
        IncrementalRidge(3, 0.0)
