"""Spectrum figures restated naively, and on features whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reprise.measures import spectrum


@pytest.fixture
def features() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(300, 20)) @ np.diag(np.linspace(0.1, 2, 20)) + 0.5


def test_singular_values_equal_the_svd(features: np.ndarray) -> None:
    for x in (features, features[:10]):
        assert spectrum.singular_values(x).numpy() == pytest.approx(np.linalg.svd(x, compute_uv=False), rel=1e-9)


def test_rankme_restated(features: np.ndarray) -> None:
    s = np.linalg.svd(features, compute_uv=False)
    p = s / s.sum() + 1e-7
    assert spectrum.rankme(features) == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-9)


@pytest.mark.parametrize("rank", [1, 3, 16])
def test_rank_of_equal_directions(rank: int) -> None:
    x = np.zeros((64, 32))
    x[np.arange(64), np.arange(64) % rank] = 1.0
    assert spectrum.rankme(x) == pytest.approx(rank, rel=1e-4)


def test_effective_rank_and_participation_ignore_a_common_offset(features: np.ndarray) -> None:
    moved = features + 1000.0
    assert spectrum.effective_rank(moved) == pytest.approx(spectrum.effective_rank(features), rel=1e-5)
    assert spectrum.participation_ratio(moved) == pytest.approx(spectrum.participation_ratio(features), rel=1e-5)
    assert spectrum.rankme(moved) < 2 < spectrum.rankme(features)


def test_participation_ratio_restated(features: np.ndarray) -> None:
    e = np.linalg.eigvalsh(np.cov(features.T))
    assert spectrum.participation_ratio(features) == pytest.approx(e.sum() ** 2 / (e**2).sum(), rel=1e-9)


def test_feature_std_is_one_for_isotropic_and_zero_for_collapsed() -> None:
    x = np.random.default_rng(0).normal(size=(5000, 64))
    assert spectrum.feature_std(x) == pytest.approx(1.0, abs=0.01)
    assert spectrum.feature_std(np.ones((50, 8)) * np.arange(1, 51)[:, None]) == pytest.approx(0.0, abs=1e-7)


def test_uniformity_restated_over_blocks() -> None:
    x = np.random.default_rng(0).normal(size=(700, 5))
    z = x / np.linalg.norm(x, axis=1, keepdims=True)
    i, j = np.triu_indices(700, k=1)
    expected = np.log(np.exp(-2 * ((z[i] - z[j]) ** 2).sum(1)).mean())
    assert spectrum.uniformity(x) == pytest.approx(expected, rel=1e-10)
    assert spectrum.uniformity(np.ones((9, 3))) == pytest.approx(0.0, abs=1e-12)


def test_invariant_to_rotation_and_order(features: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    rotation, _ = np.linalg.qr(rng.normal(size=(20, 20)))
    turned = (features @ rotation)[rng.permutation(300)]
    for name in ("rankme", "effective_rank", "participation_ratio", "uniformity"):
        assert getattr(spectrum, name)(turned) == pytest.approx(getattr(spectrum, name)(features), rel=1e-8), name


def test_torch_and_numpy_agree_whatever_the_precision(features: np.ndarray) -> None:
    single = torch.from_numpy(features).float().requires_grad_()
    assert spectrum.rankme(single) == pytest.approx(spectrum.rankme(features), rel=1e-5)
    assert spectrum.feature_std(single.bfloat16()) == pytest.approx(spectrum.feature_std(features), rel=2e-2)
    read_only = features.copy()
    read_only.flags.writeable = False  # as pyarrow gives them
    assert spectrum.feature_std(read_only) == spectrum.feature_std(features)


def test_collapse_flags() -> None:
    rng = np.random.default_rng(0)
    healthy = rng.normal(size=(400, 64))
    line = rng.normal(size=(400, 1)) * np.ones((1, 64))
    for x, expected in ((healthy, "none"), (np.ones((400, 64)), "complete"), (line, "dimensional")):
        assert spectrum.collapse(spectrum.feature_std(x), spectrum.rankme(x), *x.shape) == expected


def test_edges() -> None:
    zeros = np.zeros((5, 3))
    assert spectrum.rankme(zeros) == spectrum.effective_rank(zeros) == spectrum.participation_ratio(zeros) == 0.0
    assert spectrum.effective_rank(np.full((7, 3), 0.1)) == 0.0
    assert spectrum.spectrum(np.ones((1, 3)))["uniformity"] is None
    with pytest.raises(ValueError, match="two rows"):
        spectrum.uniformity(np.ones((1, 3)))
    with pytest.raises(ValueError, match=r"\(n, d\)"):
        spectrum.rankme(np.ones((0, 3)))
