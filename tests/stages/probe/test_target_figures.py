"""Weighted average precision, R2 and the ridge path against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import average_precision_score, r2_score
from sklearn.preprocessing import StandardScaler

from stages.probe import quantities
from stages.probe.probes.quality import multilabel


def test_average_precision_equals_scikit_learn_also_with_ties_and_weights() -> None:
    rng = np.random.default_rng(0)
    for digits in (8, 1):  # with one digit many scores are equal
        scores, positive = np.round(rng.normal(size=200), digits), rng.random(200) < 0.3
        weights = rng.integers(0, 4, (5, 200)).astype(float)
        assert multilabel.average_precision(scores, positive)[0] == pytest.approx(
            average_precision_score(positive, scores)
        )
        expected = [average_precision_score(positive, scores, sample_weight=w) for w in weights]
        assert multilabel.average_precision(scores, positive, weights) == pytest.approx(expected)


def test_average_precision_without_a_positive_is_undefined() -> None:
    assert np.isnan(multilabel.average_precision(np.arange(3.0), np.zeros(3, bool))[0])


def test_r_squared_equals_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    target = rng.normal(size=80) * 3 + 100
    answers = target + rng.normal(size=80)
    weights = rng.integers(0, 3, (4, 80)).astype(float)
    assert quantities.r_squared(answers - target, target)[0] == pytest.approx(r2_score(target, answers))
    expected = [r2_score(target, answers, sample_weight=w) for w in weights]
    assert quantities.r_squared(answers - target, target, weights) == pytest.approx(expected)
    assert np.isnan(quantities.r_squared(np.ones(5), np.full(5, 7.0))[0])


@pytest.mark.parametrize("shape", [(90, 6), (10, 30)])
def test_ridge_equals_scikit_learn(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=shape) * np.logspace(-2, 2, shape[1]) + 5
    x[:, 0] = 3.0
    y = x[:, 1] + rng.normal(size=shape[0])
    standard = StandardScaler().fit_transform(x)
    for penalty, weight, bias in quantities.ridge_path(x, y, (10.0, 0.1, 1e-3)):
        peer = Ridge(alpha=penalty * len(x), solver="svd").fit(standard, y)
        assert x @ weight + bias == pytest.approx(peer.predict(standard), abs=1e-6)
