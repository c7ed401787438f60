"""Orders within windows of tars: permutations, sizes, neighbours, conflicts, and when which tar is fetched."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reprise.reading.order import batch_count, conflicts, fewest_pairs, global_batches, guided_batches
from reprise.reading.tars_ahead import Schedule, TarsAhead
from reprise.reading.windows import Windows, windowed_batches


def windows_of(rng: np.random.Generator, n: int, tars: int, limit: int) -> Windows:
    return Windows(np.sort(rng.integers(0, tars, n)), rng.integers(1, 50, tars), limit)


@pytest.mark.parametrize("sampling", ["random", "guided", "rank"])
@given(
    st.integers(1, 90),
    st.integers(1, 9),
    st.integers(1, 200),
    st.integers(1, 20),
    st.integers(1, 7),
    st.integers(0, 99),
)
@settings(max_examples=120, deadline=None)
def test_every_image_once_in_batches_as_without_windows(
    sampling: Any, n: int, tars: int, limit: int, batch_size: int, names: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    windows = windows_of(rng, n, tars, limit)
    clusters = rng.integers(-1, names, n)
    drawn = windows.draw(rng)
    assert sorted(np.concatenate(drawn).tolist()) == list(range(n))
    batches = windowed_batches(sampling, clusters, batch_size, drawn, rng)
    without = global_batches(sampling, clusters, batch_size, np.random.default_rng(0))
    assert sorted(np.concatenate(batches).tolist()) == list(range(n))
    assert sorted(map(len, batches)) == sorted(map(len, without))
    # The batches go through the windows in their order, and only the one over an end holds images of two.
    window = np.empty(n, np.int64)
    for number, images in enumerate(drawn):
        window[images] = number
    spans = [(int(window[batch].min()), int(window[batch].max())) for batch in batches]
    assert all(before[1] <= after[0] for before, after in pairwise(spans))


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 200), st.integers(0, 99))
@settings(max_examples=80, deadline=None)
def test_windows_hold_whole_tars_up_to_the_limit(n: int, tars: int, limit: int, seed: int) -> None:
    windows = windows_of(np.random.default_rng(seed), n, tars, limit)
    drawn = windows.draw(np.random.default_rng(seed))
    of = [set(windows.tar[images].tolist()) for images in drawn]
    assert all(of)
    assert sum(map(len, of)) == len(set(windows.tar.tolist()))  # no tar in two
    assert all(windows.sizes[list(held)].sum() <= limit or len(held) == 1 for held in of)
    for one, other in pairwise(of):  # none ended before it was full
        assert windows.sizes[list(one)].sum() + min(windows.sizes[list(other)]) > limit or len(other) > 1


def test_one_window_is_the_order_without_windows() -> None:
    clusters = np.arange(200) % 11
    windows = Windows(np.arange(200) // 20, np.full(10, 100), 1000)
    assert len(windows.draw(np.random.default_rng(1))) == 1
    for sampling in ("random", "guided", "rank"):
        one = windowed_batches(sampling, clusters, 32, [np.arange(200)], np.random.default_rng(5))  # type: ignore[arg-type]
        other = global_batches(sampling, clusters, 32, np.random.default_rng(5))  # type: ignore[arg-type]
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_an_order_is_a_function_of_its_generators_and_changes_with_the_epoch() -> None:
    windows, clusters = Windows(np.arange(300) // 15, np.full(20, 10), 40), np.arange(300) % 7

    def order(seed: int) -> list[list[int]]:
        drawn = windows.draw(np.random.default_rng(seed))
        rng = np.random.default_rng(seed)
        return [batch.tolist() for batch in windowed_batches("guided", clusters, 32, drawn, rng)]

    assert order(3) == order(3)
    assert order(3) != order(4)


@given(st.integers(20, 120), st.integers(2, 6), st.integers(2, 12), st.integers(2, 9), st.integers(0, 500))
@settings(max_examples=150, deadline=None)
def test_guided_batches_spread_clusters_evenly_within_a_window(
    n: int, tars: int, batch_size: int, names: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    windows = Windows(np.sort(rng.integers(0, tars, n)), np.full(tars, 10), 10)
    clusters = rng.integers(-1, names, n)
    drawn = windows.draw(rng)
    batches = windowed_batches("guided", clusters, batch_size, drawn, rng)
    pairs = sum(
        int(clusters[a] == clusters[b] != -1) for batch in batches for i, a in enumerate(batch) for b in batch[:i]
    )
    assert conflicts(clusters, batches).pairs == pairs  # by a naive count
    sizes = np.unique(clusters[clusters >= 0], return_counts=True)[1] if (clusters >= 0).any() else np.zeros(1, int)
    assert pairs >= fewest_pairs(sizes, len(batches))  # of all assignments, with windows or without
    for images in drawn:
        inside = [batch for batch in batches if set(batch.tolist()) <= set(images.tolist())]
        for name in range(names):
            counts = [int((clusters[batch] == name).sum()) for batch in inside]
            # a batch over the end of the window may lie wholly in the next one, as its first images are
            assert not counts or max(counts) - sorted(counts)[min(1, len(counts) - 1)] <= 1


def test_clusters_that_a_window_can_keep_apart_do_not_meet() -> None:
    """Ten clusters over all tars, windows of four tars of 20 images, batches of ten: no image meets its like."""
    clusters = np.arange(1000) % 10
    windows = Windows(np.arange(1000) // 20, np.full(50, 1), 4)
    for seed in range(5):
        drawn = windows.draw(np.random.default_rng(seed))
        batches = windowed_batches("guided", clusters, 10, drawn, np.random.default_rng(seed))
        assert conflicts(clusters, batches).pairs == 0


def test_tars_of_one_cluster_each_cannot_keep_it_apart() -> None:
    """Where images that are alike lie in one tar, small windows leave conflicts that large ones do not."""
    clusters = np.arange(1000) // 25
    pairs = []
    for limit in (1, 8, 40):
        windows = Windows(np.arange(1000) // 25, np.full(40, 1), limit)
        drawn = windows.draw(np.random.default_rng(0))
        batches = windowed_batches("guided", clusters, 25, drawn, np.random.default_rng(0))
        pairs.append(conflicts(clusters, batches).pairs)
    without = conflicts(clusters, guided_batches(clusters, 25, np.random.default_rng(0))).pairs
    assert pairs[0] > pairs[1] > pairs[2] == without == 0


@given(st.integers(1, 60), st.integers(1, 8), st.integers(1, 9), st.integers(0, 300), st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_a_schedule_says_what_fits_beside_what_is_needed(n: int, tars: int, size: int, room: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    tar, sizes = np.sort(rng.integers(0, tars, n)), rng.integers(1, 50, tars)
    order = np.array_split(rng.permutation(n), batch_count(n, size))
    schedule = Schedule.of(order, tar, sizes)
    uses = [set(tar[rows].tolist()) for rows in order]
    first = [min(b for b, used in enumerate(uses) if t in used) for t in schedule.tars.tolist()]
    assert first == sorted(first)
    assert set(schedule.tars.tolist()) == set(tar.tolist())
    for batch in range(len(order)):
        finished = sum(int(sizes[t]) for t in schedule.tars if all(t not in used for used in uses[batch:]))
        bytes_of = [sum(int(sizes[t]) for t in schedule.tars[:count]) for count in range(len(schedule.tars) + 1)]
        assert schedule.within(batch, room) == max(c for c, held in enumerate(bytes_of) if held - finished <= room)


class Asked:
    """Stands for shards: 12 tars of 10 bytes with 5 images each, and notes what is expected of them."""

    of_tar = (np.arange(60) // 5, np.full(12, 10))

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.gone: list[int] = []

    def expect(self, numbers: list[int]) -> None:
        self.numbers += numbers

    def let_go(self, numbers: list[int]) -> None:
        self.gone += numbers


def test_tars_are_asked_for_before_they_are_needed_and_never_more_than_fit() -> None:
    asked = Asked()
    ahead = TarsAhead(asked, np.arange(60), Asked.of_tar[1], 40)  # type: ignore[arg-type]
    windows = Windows(np.arange(60) // 5, np.full(12, 10), 20)
    orders = []
    for epoch in range(3):
        drawn = windows.draw(np.random.default_rng(epoch))
        orders.append(windowed_batches("random", np.full(60, -1), 5, drawn, np.random.default_rng(epoch)))
    sequence = []  # tars in the order in which the batches of all epochs first need them
    for order in orders:
        seen: list[int] = []
        for rows in order:
            seen += [t for t in sorted(set((rows // 5).tolist())) if t not in seen]
        sequence.append(seen)
    for epoch, order in enumerate(orders):
        for number, rows in enumerate(order):
            later = orders[epoch + 1] if epoch + 1 < len(orders) else []
            ahead.at(epoch, number, order, lambda later=later: later)  # type: ignore[misc]
            start = epoch * 12
            assert set((rows // 5).tolist()) <= set(asked.numbers[start:])
            done = [t for t in sequence[epoch] if all(t not in (r // 5).tolist() for r in order[number:])]
            assert len(asked.numbers) - start - len(done) <= 4  # four fit
    assert len(asked.numbers) == 36  # each once an epoch
    assert [set(asked.numbers[i : i + 12]) for i in (0, 12, 24)] == [set(range(12))] * 3


def test_a_run_that_goes_on_in_an_epoch_asks_for_no_tar_that_only_earlier_batches_need() -> None:
    asked = Asked()
    ahead = TarsAhead(asked, np.arange(60), Asked.of_tar[1], 40)  # type: ignore[arg-type]
    drawn = Windows(np.arange(60) // 5, np.full(12, 10), 20).draw(np.random.default_rng(0))
    order = windowed_batches("random", np.full(60, -1), 5, drawn, np.random.default_rng(0))
    ahead.at(0, 8, order, list)
    assert set(asked.numbers) == {int(row) // 5 for rows in order[8:] for row in rows}


def test_tars_make_room_once_no_batch_needs_them_and_not_if_they_were_asked_for_again() -> None:
    asked = Asked()
    ahead = TarsAhead(asked, np.arange(60), Asked.of_tar[1], 40)  # type: ignore[arg-type]
    windows = Windows(np.arange(60) // 5, np.full(12, 10), 20)
    orders = [
        windowed_batches("random", np.full(60, -1), 5, windows.draw(np.random.default_rng(e)), np.random.default_rng(e))
        for e in range(4)
    ]
    for epoch, order in enumerate(orders[:3]):
        for number in range(len(order)):
            before = len(asked.gone)
            ahead.at(epoch, number, order, lambda epoch=epoch: orders[epoch + 1])  # type: ignore[misc]
            now = asked.gone[before:]
            assert not {int(row) // 5 for rows in order[number:] for row in rows} & set(now)
            assert not set(asked.numbers[12 * (epoch + 1) :]) & set(now)  # of the next epoch
    assert len(asked.gone) > 24
    assert set(asked.gone) == set(range(12))
