"""Average precision against scikit-learn and by hand; rankings, ties."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from reprise.measures.nearest import retrieval


def features(n: int, seed: int, d: int = 24) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def test_average_precision_by_hand() -> None:
    relevant = np.array([[1, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]], dtype=bool)
    found = retrieval.average_precision(relevant)
    assert found[[0, 1, 3]].tolist() == [(1 + 2 / 3) / 2, 1 / 4, 1.0]
    assert np.isnan(found[2])
    assert retrieval.average_precision(relevant, 2)[[0, 1, 3]].tolist() == [0.5, 0.0, 1.0]


def test_mean_average_precision_equals_scikit_learn() -> None:
    queries, gallery = features(30, 0), features(200, 1)
    rng = np.random.default_rng(2)
    asked, owned = rng.integers(0, 5, 30), rng.integers(0, 5, 200)
    unit_queries, unit_gallery = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, gallery))
    found = np.empty(30)
    for block, order in retrieval.rankings(queries, gallery, cells=900):
        found[block] = retrieval.average_precision(owned[order] == asked[block, None])
    expected = [
        average_precision_score(owned == label, unit_gallery @ query)
        for label, query in zip(asked, unit_queries, strict=True)
    ]
    assert found == pytest.approx(expected, abs=1e-6)


def test_equal_similarities_are_ranked_by_row() -> None:
    gallery = np.tile(features(2, 3), (5, 1))
    ((_, order),) = retrieval.rankings(features(1, 4), gallery)
    halves = {tuple(order[0][:5].tolist()), tuple(order[0][5:].tolist())}
    assert halves == {(0, 2, 4, 6, 8), (1, 3, 5, 7, 9)}
