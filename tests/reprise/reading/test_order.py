"""Guided batches: the design's statement, held against brute force on small cases and the bound on large ones."""

from __future__ import annotations

import tracemalloc
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reprise.reading import order
from reprise.reading.order import batch_count, conflicts, fewest_pairs, guided_batches, random_batches, rank_batches


def pairs_of(clusters: np.ndarray, batches: list[np.ndarray]) -> int:
    """Naive count of same-cluster pairs."""
    total = 0
    for batch in batches:
        for a in range(len(batch)):
            for b in range(a):
                total += clusters[batch[a]] == clusters[batch[b]] and clusters[batch[a]] >= 0
    return total


def brute_force_fewest(clusters: np.ndarray, m: int) -> int:
    """The fewest pairs over all assignments of n images to m batches whose sizes differ by at most one."""
    n = len(clusters)
    best = n * n
    for assignment in product(range(m), repeat=n):
        sizes = np.bincount(assignment, minlength=m)
        if sizes.max() - sizes.min() <= 1:
            batches = [np.flatnonzero(np.array(assignment) == b) for b in range(m)]
            best = min(best, pairs_of(clusters, batches))
    return best


@pytest.mark.parametrize("sampler", ["random", "guided", "rank"])
@given(st.lists(st.integers(-1, 6), min_size=1, max_size=80), st.integers(1, 20), st.integers(0, 2**31))
@settings(max_examples=150, deadline=None)
def test_every_image_once_in_batches_of_equal_size(sampler, labels, batch_size, seed):
    clusters, rng = np.array(labels), np.random.default_rng(seed)
    made = {
        "random": lambda: random_batches(len(clusters), batch_size, rng),
        "guided": lambda: guided_batches(clusters, batch_size, rng),
        "rank": lambda: rank_batches(clusters, batch_size, rng),
    }[sampler]()
    assert len(made) == batch_count(len(clusters), batch_size)
    assert sorted(np.concatenate(made).tolist()) == list(range(len(clusters)))
    sizes = [len(b) for b in made]
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= batch_size


@given(st.lists(st.integers(-1, 9), min_size=1, max_size=120), st.integers(1, 30), st.integers(0, 2**31))
@settings(max_examples=300, deadline=None)
def test_guided_batches_reach_the_bound(labels, batch_size, seed):
    clusters = np.array(labels)
    batches = guided_batches(clusters, batch_size, np.random.default_rng(seed))
    labelled = clusters[clusters >= 0]
    sizes = np.unique(labelled, return_counts=True)[1] if len(labelled) else np.zeros(1, int)
    assert pairs_of(clusters, batches) == fewest_pairs(sizes, len(batches))
    assert (pairs_of(clusters, batches) == 0) == (sizes.max() <= len(batches))
    # evenly spread: no cluster appears in one batch two times more often than in another
    for cluster in np.unique(labelled):
        counts = [(clusters[b] == cluster).sum() for b in batches]
        assert max(counts) - min(counts) <= 1


def plainly_guided(clusters: np.ndarray, m: int, rng: np.random.Generator) -> list[list[int]]:
    """The same draw, written down with lists: it must not change, since runs are continued and repeated."""
    n = len(clusters)
    named = [int(c) if c >= 0 else -1 - i for i, c in enumerate(clusters.tolist())]
    shuffled = rng.permutation(n).tolist()
    distinct = sorted(set(named))
    place = dict(zip(distinct, rng.permutation(len(distinct)).tolist(), strict=True))
    batches: list[list[int]] = [[] for _ in range(m)]
    walk = rng.permutation(m).tolist()
    for name in sorted(distinct, key=place.__getitem__):
        members = [i for i in shuffled if named[i] == name]
        full, rest = divmod(len(members), m)
        chosen, walk = walk[:rest], walk[rest:]
        if len(chosen) < rest:
            new = rng.permutation(m).tolist()
            extra = [b for b in new if b not in chosen][: rest - len(chosen)]
            chosen, walk = chosen + extra, [b for b in new if b not in extra]
        for member, batch in zip(members, [*list(range(m)) * full, *chosen], strict=True):
            batches[batch].append(member)
    return [batches[b] for b in rng.permutation(m).tolist()]


@given(st.lists(st.integers(-1, 9), min_size=1, max_size=60), st.integers(1, 30), st.integers(0, 2**31), st.booleans())
@settings(max_examples=200, deadline=None)
def test_guided_batches_are_those_of_a_naive_drawing(labels, batch_size, seed, far_apart):
    clusters = np.array(labels)
    clusters[clusters > 4] *= 10**8 if far_apart else 1
    rng, plain = np.random.default_rng(seed), np.random.default_rng(seed)
    found = guided_batches(clusters, batch_size, rng)
    assert {batch.dtype for batch in found} == {np.dtype(np.int64)}
    assert [batch.tolist() for batch in found] == plainly_guided(clusters, len(found), plain)
    assert rng.integers(1 << 60) == plain.integers(1 << 60)


def test_guided_batches_take_few_bytes_an_image(monkeypatch):
    n = 200_000
    monkeypatch.setattr(order, "_BLOCK", 10_000)
    rng = np.random.default_rng(0)
    clusters = rng.integers(0, 100, n)
    tracemalloc.start()
    try:
        batches = guided_batches(clusters, 1024, rng)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(map(len, batches)) == n
    assert peak < 24 * n


@pytest.mark.parametrize("m", [2, 3])
def test_the_bound_is_what_brute_force_finds(m):
    rng = np.random.default_rng(m)
    for _ in range(12):
        n = int(rng.integers(m, 8))
        clusters = rng.integers(-1, 3, n)
        labelled = clusters[clusters >= 0]
        sizes = np.unique(labelled, return_counts=True)[1] if len(labelled) else np.zeros(1, int)
        assert brute_force_fewest(clusters, m) == fewest_pairs(sizes, m)


def every_assignment(n: int, m: int) -> np.ndarray:
    """(a, n): all ways to give n images to m batches whose sizes differ by at most one."""
    found = np.array(list(product(range(m), repeat=n)), dtype=np.int8)
    sizes = (found[:, :, None] == np.arange(m)).sum(axis=1)
    return found[sizes.max(axis=1) - sizes.min(axis=1) <= 1]


ASSIGNMENTS = {(n, m): every_assignment(n, m) for n in range(1, 10) for m in range(1, 4) if m <= n}


@given(st.lists(st.integers(-1, 5), min_size=1, max_size=9), st.integers(1, 3), st.integers(0, 2**31))
@settings(max_examples=200, deadline=None)
def test_no_assignment_of_few_images_has_fewer_pairs(labels, wanted, seed):
    """Against all assignments: zero exactly when some assignment has zero, else the fewest there are."""
    clusters = np.array(labels)
    batches = guided_batches(clusters, -(-len(clusters) // min(wanted, len(clusters))), np.random.default_rng(seed))
    m = len(batches)
    assignments = ASSIGNMENTS[len(clusters), m]
    same = np.triu((clusters[:, None] == clusters[None]) & (clusters >= 0)[:, None], 1)
    first, second = np.nonzero(same)
    pairs = (assignments[:, first] == assignments[:, second]).sum(axis=1)
    assert pairs_of(clusters, batches) == pairs.min()


@pytest.mark.parametrize("count", [3, 64, 2000, 5000])
def test_few_and_very_many_clusters_with_images_that_have_none(count):
    """K far below the batch, equal to it, and far above, a fifth of the images without a label: the bound, evenly."""
    rng = np.random.default_rng(count)
    clusters = rng.integers(0, count, 6000)
    clusters[rng.random(6000) < 0.2] = -1
    batches = guided_batches(clusters, 64, rng)
    m = batch_count(6000, 64)
    names, sizes = np.unique(clusters[clusters >= 0], return_counts=True)
    found = conflicts(clusters, batches)
    assert found.pairs == fewest_pairs(sizes, m)
    assert (found.pairs == 0) == (sizes.max() <= m)
    held = np.array([np.bincount(clusters[b][clusters[b] >= 0], minlength=count)[names] for b in batches])
    assert (held.max(axis=0) - held.min(axis=0)).max() <= 1  # no batch has two more of a cluster than another


def test_batches_are_drawn_anew_from_another_seed_and_repeat_from_the_same():
    clusters = np.arange(300) % 20
    first, again, other = (guided_batches(clusters, 32, np.random.default_rng(s)) for s in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert not all((a == b).all() for a, b in zip(first, other, strict=True))


def test_which_images_meet_is_random():
    """Over many epochs every pair of images of different clusters meets about equally often."""
    clusters = np.repeat(np.arange(8), 3)
    meetings = np.zeros((24, 24))
    epochs = 3000
    rng = np.random.default_rng(0)
    for _ in range(epochs):
        for batch in guided_batches(clusters, 8, rng):
            meetings[np.ix_(batch, batch)] += 1
    different = meetings[clusters[:, None] != clusters[None, :]] / epochs
    assert abs(different.mean() - 1 / 3) < 1e-9  # 7 partners of 21, exactly, since batches hold one of each cluster
    assert np.abs(different - 1 / 3).max() < 5 * np.sqrt(1 / 3 * 2 / 3 / epochs)


def test_rank_order_repeats_clusters_where_guided_batches_do_not():
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(16), rng.integers(5, 60, 16))
    m = batch_count(len(clusters), 8)
    assert np.bincount(clusters).max() <= m
    assert conflicts(clusters, guided_batches(clusters, 8, rng)).pairs == 0
    assert conflicts(clusters, rank_batches(clusters, 8, rng)).pairs > 0


def test_equal_clusters_as_in_the_paper_never_conflict_in_rank_order():
    clusters = np.random.default_rng(0).permutation(np.repeat(np.arange(16), 10))
    assert conflicts(clusters, rank_batches(clusters, 16, np.random.default_rng(1))).pairs == 0


def test_conflicts_counts_pairs_and_affected_images():
    clusters = np.array([0, 0, 0, 1, 1, -1, -1])
    found = conflicts(clusters, [np.array([0, 1, 2, 5]), np.array([3, 4, 6])])
    assert (found.pairs, found.batches, found.largest) == (3 + 1, 2, 3)
    assert found.share_affected == pytest.approx(5 / 7)
