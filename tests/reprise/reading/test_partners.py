"""Batches of pairs, held against what is said of them: on any graph of pairs, every anchor once beside a partner."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from reprise.reading.order import batch_count
from reprise.reading.partners import partners_of
from reprise.runtime.seeds import numpy_rng

graphs = st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), min_size=1, max_size=60).map(
    lambda edges: sorted({(min(e), max(e)) for e in edges if e[0] != e[1]}) or [(0, 1)]
)


@given(graphs, st.integers(1, 20).map(lambda half: 2 * half), st.integers(0, 2**31))
@settings(max_examples=150, deadline=None)
def test_every_image_with_a_partner_is_an_anchor_once(edges, batch_size, seed):
    weights = np.array([(i % 5 + 1) / 5 for i in range(len(edges))], np.float32)
    partners = partners_of(np.array(edges), weights, images=30)
    known = dict(zip(edges, weights.tolist(), strict=True))
    linked = sorted({image for edge in edges for image in edge})
    assert partners.anchors.tolist() == linked
    batches = partners.batches(batch_size, np.random.default_rng(seed))
    assert len(batches) == batch_count(partners.shown, batch_size)
    assert sorted(np.concatenate([b[: len(b) // 2] for b in batches]).tolist()) == linked
    sizes = [len(batch) for batch in batches]
    assert all(size % 2 == 0 and size <= batch_size for size in sizes)
    assert max(sizes) - min(sizes) <= 2
    for batch in batches:
        place, weight = partners.places(batch), partners.weights_in(batch)
        assert (place[place] == np.arange(len(batch))).all()
        for i, other in enumerate(place):
            pair = tuple(sorted((int(batch[i]), int(batch[other]))))
            assert known[pair] == weight[i]


def test_partners_are_equally_likely_whatever_their_weights_and_weightless_pairs_are_none():
    """Over many epochs an image with three partners is shown beside each of them a third of the time."""
    edges = np.array([[0, 1], [0, 2], [3, 0], [4, 5], [0, 6]])
    partners = partners_of(edges, np.array([1.0, 0.1, 0.5, 0.0, 0.0], np.float32), images=8)
    assert partners.anchors.tolist() == [0, 1, 2, 3]
    rng, beside = np.random.default_rng(0), []
    for _ in range(3000):
        for batch in partners.batches(4, rng):
            here, there = np.split(batch, 2)
            beside += there[here == 0].tolist()
    shares = np.bincount(beside, minlength=4)[1:] / len(beside)
    assert len(beside) == 3000
    assert np.abs(shares - 1 / 3).max() < 5 * np.sqrt(1 / 3 * 2 / 3 / 3000)


def test_an_epoch_is_a_function_of_seed_and_number():
    partners = partners_of(np.array([(i, (i + 1) % 40) for i in range(40)]), np.ones(40, np.float32), images=50)

    def epoch(seed: int, number: int) -> list[list[int]]:
        return [batch.tolist() for batch in partners.batches(8, numpy_rng(seed, "batches", number))]

    assert epoch(1, 3) == epoch(1, 3)
    assert epoch(1, 3) != epoch(1, 4)
    assert epoch(1, 3) != epoch(2, 3)
