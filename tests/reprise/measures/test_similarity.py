"""Centred kernel alignment: the definition restated, invariances, bias."""

from __future__ import annotations

import numpy as np
import pytest

from reprise.measures import similarity
from tests.paired_representations import paired, rotation


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    return paired()


def hsic(k: np.ndarray, m: np.ndarray) -> float:
    """Biased, from the definition."""
    h = np.eye(len(k)) - 1 / len(k)
    return float(np.trace(k @ h @ m @ h))


def unbiased_hsic(k: np.ndarray, m: np.ndarray) -> float:
    """Song et al. 2012, equation 5, from the definition."""
    n, one = len(k), np.ones(len(k))
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    middle = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
    return float((np.trace(k @ m) + middle - 2 / (n - 2) * one @ k @ m @ one) / (n * (n - 3)))


@pytest.mark.parametrize(("found", "form"), [("linear_cka", hsic), ("debiased_cka", unbiased_hsic)])
def test_cka_restated(pair, found: str, form) -> None:
    x, y = pair
    k, m = x @ x.T, y @ y.T
    expected = form(k, m) / np.sqrt(form(k, k) * form(m, m))
    assert getattr(similarity, found)(x, y) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", ["linear_cka", "debiased_cka"])
def test_invariances(pair, name: str) -> None:
    x, y = pair
    measure = getattr(similarity, name)
    assert measure(x, x) == pytest.approx(1.0)
    assert measure(x, 3 * x @ rotation(7) + 11) == pytest.approx(1.0)
    assert measure(x, y) == pytest.approx(measure(2 * x @ rotation(7) - 4, y), rel=1e-6)
    assert measure(x, y) == pytest.approx(measure(y, x))
    assert measure(x, x @ np.diag([9.0, 1, 1, 1, 1, 1, 0.1])) < 0.999  # not to any invertible map
    assert measure(x, np.ones((120, 2))) == 0.0


def test_only_debiased_cka_is_near_zero_for_unrelated_features() -> None:
    rng = np.random.default_rng(1)
    pairs = [(rng.normal(size=(60, 100)), rng.normal(size=(60, 100))) for _ in range(20)]
    assert np.mean([similarity.linear_cka(x, y) for x, y in pairs]) > 0.5
    assert abs(np.mean([similarity.debiased_cka(x, y) for x, y in pairs])) < 0.02
    with pytest.raises(ValueError, match="four rows"):
        similarity.debiased_cka(np.eye(3), np.eye(3))
