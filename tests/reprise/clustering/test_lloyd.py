"""Early moves of k-means on 8-bit integers: near enough where they are used, and given up where the data are finer."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reprise.clustering import coarse
from reprise.clustering.centres import nearest, sums
from reprise.clustering.lloyd import lloyd
from reprise.clustering.starts import plus_plus


def noisy(n: int = 3000, d: int = 48, groups: int = 200) -> np.ndarray:
    """Groups that overlap, so that borders are everywhere; one feature is a hundred times as large."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(groups, d))[rng.integers(0, groups, n)] * 0.7 + rng.normal(size=(n, d)) + 3
    x[:, 5] *= 100 / 3
    return x.astype(np.float32)


def spread_about(features: np.ndarray, centres: np.ndarray) -> float:
    return float(nearest(features, centres).squared.sum(dtype=np.float64))


@pytest.mark.parametrize("d", [33, 48, 300])  # less than one piece of the Hadamard matrix, and three
def test_what_is_found_on_8_bits_is_near_the_nearest(d):
    x = noisy(d=d)
    centres = plus_plus(x, 100, np.random.default_rng(1))
    rows = coarse.CoarseRows(x)
    found, exact = rows.nearest(centres), nearest(x, centres)
    squared = ((x.astype(np.float64) - centres[found]) ** 2).sum(axis=1)
    assert (found == exact.centre).mean() > 0.8
    assert squared.sum() <= 1.005 * exact.squared.sum(dtype=np.float64)
    # a row is off by half a step on each of P axes, and so is a centre: no farther than that allows
    turned = rows._turned(x).numpy()
    inside = (np.abs(turned) <= coarse.LEVELS * rows.step).all(axis=1)
    most = 2 * rows.step * rows.width**0.5
    assert (np.sqrt(squared) - exact.distance <= most)[inside].all()
    assert inside.mean() > 0.99
    np.testing.assert_allclose((turned**2).sum(axis=1), ((x - rows.mean) ** 2).sum(axis=1), rtol=1e-4)
    assert (rows.nearest(centres, 7) == found[::7]).all()


def test_equal_centres_go_to_the_lowest_number():
    x = noisy(500)
    found = coarse.CoarseRows(x).nearest(np.repeat(x[:40], 2, axis=0))
    assert (found % 2 == 0).all()


def test_early_moves_end_as_good_as_exact_ones(monkeypatch):
    x = noisy()
    start = plus_plus(x, 100, np.random.default_rng(1))
    exact, objective = lloyd(x, start, 8)
    used = []
    real = coarse.CoarseRows.nearest
    monkeypatch.setattr(coarse.CoarseRows, "nearest", lambda *a: (used.append(1), real(*a))[1])
    monkeypatch.setattr(coarse, "is_faster", lambda *_: True)
    early, told = lloyd(x, start, 8)
    assert len(used) == 1 + 6  # the check of a sample, and all moves but two
    assert spread_about(x, early) <= 1.003 * spread_about(x, exact)
    for centres, said in ((exact, objective), (early, told)):  # said of the images that moved the centres
        assert spread_about(x, centres) <= said <= 1.01 * spread_about(x, centres)


def test_data_finer_than_8_bits_are_moved_exactly(monkeypatch):
    """Forty far places of two tight groups each: to 8 bits the two are one."""
    rng = np.random.default_rng(0)
    place = rng.normal(size=(40, 64)) * 100
    groups = np.repeat(place, 2, axis=0) + np.tile([[0.0], [0.02]], (40, 1))
    x = (groups[np.arange(2000) % 80] + rng.normal(size=(2000, 64)) * 0.005).astype(np.float32)
    start = x[:80]
    exact, _ = lloyd(x, start, 10)
    monkeypatch.setattr(coarse, "is_faster", lambda *_: True)
    early, _ = lloyd(x, start, 10)
    assert (early == exact).all()
    # and where a sample of rows does not tell at the start, a centre that nothing is near to does
    monkeypatch.setattr("reprise.clustering.lloyd.LARGEST_LOSS", np.inf)
    again, _ = lloyd(x, start, 10)
    assert spread_about(x, again) <= 1.001 * spread_about(x, exact)


def test_the_objective_is_that_of_the_centres_also_far_from_zero():
    x = noisy() + np.float32(1000)
    for spherical in (False, True):
        rows = x / np.linalg.norm(x, axis=1, keepdims=True) if spherical else x
        start = plus_plus(rows, 20, np.random.default_rng(0))
        centres, objective = lloyd(rows, start, 1, spherical=spherical)
        label = nearest(rows, start).centre
        want = ((rows.astype(np.float64) - centres[label]) ** 2).sum()
        np.testing.assert_allclose(objective, want, rtol=2e-3)
        total, counts = sums(rows, label, 20)
        direction = total / np.linalg.norm(total, axis=1, keepdims=True) if spherical else total / counts[:, None]
        np.testing.assert_allclose(centres, direction, rtol=1e-4)


def test_where_8_bits_pay_is_where_the_processor_multiplies_them():
    native = torch.cpu._is_vnni_supported()
    assert coarse.is_faster(50_000, 128, 1000, "cpu") == native
    assert not coarse.is_faster(50_000, 128, 1000, "cuda")
    assert not coarse.is_faster(50_000, 16, 100_000, "cpu")
    assert not coarse.is_faster(1000, 128, 100, "cpu")


def test_copies_of_few_rows_stay_together(monkeypatch):
    monkeypatch.setattr(coarse, "is_faster", lambda *_: True)
    x = np.repeat(noisy(4), 50, axis=0)
    centres, objective = lloyd(x, plus_plus(x, 64, np.random.default_rng(0)), 10)
    assert np.isfinite(centres).all()
    assert objective <= 1e-6 * (x.astype(np.float64) ** 2).sum()
    found = nearest(x, centres).centre.reshape(4, 50)
    assert (found == found[:, :1]).all()
