"""Merging of clusters: the pairs that cost least, by their definition; and what k-means gains from it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reprise.clustering import starts
from reprise.clustering.centres import nearest, sums
from reprise.clustering.lloyd import lloyd
from reprise.clustering.merging import first_centres, merged
from reprise.clustering.starts import plus_plus


def clusters(K: int = 30, d: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 50, K)
    return rng.normal(size=(K, d)) * 3 * counts[:, None] + 100 * counts[:, None], counts


def spread_by_rows(parts: list[np.ndarray]) -> float:
    return sum(((part - part.mean(axis=0)) ** 2).sum() for part in parts)


def test_one_too_many_joins_the_two_whose_rows_suffer_least():
    """Against the rows themselves: of all pairs, that whose union has the least sum of squared distances."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        parts = [rng.normal(size=(rng.integers(1, 9), 3)) + rng.normal(size=3) * 2 for _ in range(7)]
        total, counts = merged(np.stack([p.sum(0) for p in parts]), np.array([len(p) for p in parts]), 6)
        pairs = [(a, b) for a in range(7) for b in range(a + 1, 7)]
        costs = []
        for a, b in pairs:
            rest = [p for i, p in enumerate(parts) if i not in (a, b)]
            costs.append(spread_by_rows([*rest, np.concatenate([parts[a], parts[b]])]))
        a, b = pairs[int(np.argmin(costs))]
        wanted = [np.concatenate([p, parts[b]]) if i == a else p for i, p in enumerate(parts) if i != b]
        np.testing.assert_allclose(total, [p.sum(0) for p in wanted])
        assert counts.tolist() == [len(p) for p in wanted]


@pytest.mark.parametrize("left", [1, 2, 13, 29, 30])
def test_rows_are_neither_lost_nor_made(left):
    total, counts = clusters()
    joined, sizes = merged(total, counts, left)
    assert len(joined) == len(sizes) == left
    assert sizes.sum() == counts.sum()
    np.testing.assert_allclose(joined.sum(axis=0), total.sum(axis=0))
    if left == 30:
        assert (joined == total).all()


def test_what_is_joined_does_not_hang_on_the_order_or_on_threads():
    total, counts = clusters(1200, 8)
    many, _ = merged(total, counts, 1000)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert (merged(total, counts, 1000)[0] == many).all()
    finally:
        torch.set_num_threads(threads)
    order = np.random.default_rng(1).permutation(1200)
    other, _ = merged(total[order], counts[order], 1000)
    np.testing.assert_allclose(other[np.lexsort(other.T)], many[np.lexsort(many.T)])


def test_empty_clusters_go_first():
    total, counts = clusters()
    total[[3, 17]], counts[[3, 17]] = 0, 0
    joined, sizes = merged(total, counts, 28)
    assert sorted(sizes.tolist()) == sorted(counts[counts > 0].tolist())
    np.testing.assert_allclose(joined[np.lexsort(joined.T)], (kept := total[counts > 0])[np.lexsort(kept.T)])


def test_k_means_from_more_centres_ends_nearer():
    """Groups that overlap: the worst of such starts is better than the best of the plain ones."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(400, 64))[rng.integers(0, 400, 9000)] * 0.5 + rng.normal(size=(9000, 64))).astype(np.float32)

    def inertia(start: np.ndarray, wanted: int) -> float:
        centres, _ = lloyd(x, start, 12, clusters=wanted, merge=merged)
        assert len(centres) == wanted
        return float(nearest(x, centres).squared.sum(dtype=np.float64))

    with_more = [inertia(first_centres(x, 180, np.random.default_rng(s)), 180) for s in range(3)]
    plain = [inertia(plus_plus(x, 180, np.random.default_rng(s)), 180) for s in range(3)]
    assert max(with_more) < min(plain)


def test_groups_that_are_apart_are_found():
    """Where every group is one cluster there is a best answer: plain starts miss groups, these nearly none."""
    rng = np.random.default_rng(0)
    places = rng.normal(size=(100, 32)).astype(np.float32) * 5
    group = np.repeat(np.arange(100), 30)
    x = places[group] + rng.normal(size=(3000, 32)).astype(np.float32)

    def groups_met(start: np.ndarray) -> int:
        centres, _ = lloyd(x, start, 12, clusters=100, merge=merged)
        return len(np.unique(nearest(centres, places).centre))

    assert np.mean([groups_met(plus_plus(x, 100, np.random.default_rng(s))) for s in range(4)]) < 96
    assert np.mean([groups_met(first_centres(x, 100, np.random.default_rng(s))) for s in range(4)]) >= 99


def test_drawing_several_at_once_takes_rows_that_differ():
    x = np.random.default_rng(0).normal(size=(5000, 8)).astype(np.float32)
    start = plus_plus(x, 900, np.random.default_rng(1))
    assert len(np.unique(start, axis=0)) == 900
    chance = x[np.random.default_rng(1).choice(5000, 900, replace=False)]
    assert nearest(x, start).squared.mean() < nearest(x, chance).squared.mean()


def test_distances_held_while_several_are_drawn_are_bounded(monkeypatch):
    """Their number would grow with the square of the number of clusters."""
    x = np.random.default_rng(0).normal(size=(2000, 8)).astype(np.float32)
    held, real = [], torch.mm
    monkeypatch.setattr(starts, "DRAWN_CELLS", 5000)
    monkeypatch.setattr(torch, "mm", lambda a, b: (held.append(len(a) * b.shape[1]), real(a, b))[1])
    start = plus_plus(x, 200, np.random.default_rng(1))
    assert len(np.unique(start, axis=0)) == 200
    assert max(held) == 2 * 2000  # without the bound a sixteenth of 200


def test_rows_that_no_longer_move_are_merged_all_the_same():
    """Copies of few rows: after one move every centre stands where it stays."""
    rows = np.diag(np.arange(1, 13)).astype(np.float32)
    x = np.repeat(rows, 20, axis=0)
    for iterations in (1, 2, 50):
        centres, objective = lloyd(x, rows, iterations, clusters=8, merge=merged)
        assert len(centres) == 8
        np.testing.assert_allclose(objective, nearest(x, centres).squared.sum(), rtol=1e-5)


def test_how_many_it_starts_with():
    x = np.random.default_rng(0).normal(size=(110, 3)).astype(np.float32)
    lengths = {K: len(first_centres(x, K, np.random.default_rng(0))) for K in (2, 3, 64, 90, 100, 110)}
    assert lengths == {2: 3, 3: 4, 64: 96, 90: 110, 100: 110, 110: 110}


@pytest.mark.parametrize("iterations", [1, 2, 3])
def test_the_objective_is_told_of_the_clusters_that_are_left(iterations):
    x = np.random.default_rng(0).normal(size=(500, 6)).astype(np.float32) + np.float32(50)
    start = plus_plus(x, 30, np.random.default_rng(1))
    centres, objective = lloyd(x, start, iterations, clusters=20, merge=merged)
    assert centres.shape == (20, 6)
    if iterations <= 2:  # the last move merged: the rows are those of the parts
        before = start if iterations == 1 else lloyd(x, start, 1)[0]
        total, counts = sums(x, nearest(x, before).centre, 30)
        total, counts = merged(total, counts, 20)
        np.testing.assert_allclose(centres, total / counts[:, None], rtol=1e-5)
        want = (x.astype(np.float64) ** 2).sum() - ((total / counts[:, None]) ** 2 * counts[:, None]).sum()
        np.testing.assert_allclose(objective, want, rtol=1e-4)  # distances to the mean of all rows are float32
