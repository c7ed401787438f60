"""Nearest neighbours against naive loops and scikit-learn; ties, edges, bounded memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from reprise.measures.nearest import neighbours, shortlist


def naive(queries: np.ndarray, bank: np.ndarray, k: int) -> list[list[int]]:
    unit = [row / (np.linalg.norm(row) or 1.0) for row in bank.astype(np.float64)]
    found = []
    for query in queries.astype(np.float64):
        q = query / (np.linalg.norm(query) or 1.0)
        order = sorted(range(len(unit)), key=lambda i: (-np.float32(unit[i] @ q), i))
        found.append(order[:k])
    return found


@pytest.mark.parametrize("seed", range(3))
def test_equals_a_naive_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    queries, bank = rng.normal(size=(17, 12)).astype(np.float32), rng.normal(size=(90, 12)).astype(np.float32)
    similarity, row = neighbours.top_k(queries, bank, 7)
    assert row.tolist() == naive(queries, bank, 7)
    assert (np.diff(similarity, axis=1) <= 0).all()


def test_ties_go_to_the_lowest_row_whatever_the_block() -> None:
    """A bank of 5 directions repeated 40 times: every similarity occurs 40 times."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(5, 24))
    bank = np.tile(directions, (40, 1)).astype(np.float32)
    queries = rng.normal(size=(33, 24)).astype(np.float32)
    expected = naive(queries, bank, 30)
    for cells in (1, 1000, 1 << 24):
        assert neighbours.top_k(queries, bank, 30, cells=cells)[1].tolist() == expected


def test_near_ties_beyond_float32_are_still_exact() -> None:
    """More rows within float32's error than spare candidates: only the float64 pass can order them."""
    rng = np.random.default_rng(1)
    base = rng.normal(size=64)
    bank = base + 3e-5 * rng.normal(size=(400, 64))
    queries = base + 0.1 * rng.normal(size=(3, 64))
    assert neighbours.top_k(queries, bank, 5)[1].tolist() == naive(queries, bank, 5)


@pytest.mark.parametrize("width", [1.0, 3e-5, 0.0])
def test_unordered_finds_the_same_rows(width: float) -> None:
    """Far apart, within rounding of each other, and all equal."""
    rng = np.random.default_rng(4)
    base = rng.normal(size=32)
    bank, queries = base + width * rng.normal(size=(300, 32)), base + 0.1 * rng.normal(size=(20, 32))
    for k in (1, 40, 300):
        similarity, row = neighbours.top_k(queries, bank, k)
        other_similarity, other_row = neighbours.top_k(queries, bank, k, ordered=False)
        assert (np.sort(other_row, axis=1) == np.sort(row, axis=1)).all()
        assert other_similarity == pytest.approx(similarity, abs=1e-5)


@pytest.mark.parametrize(("n", "d", "k"), [(700, 64, 20), (90, 64, 80), (500, 3, 7)])
@pytest.mark.parametrize("width", [1.0, 1e-4, 0.0])
def test_the_shortlist_of_8_bit_products_finds_the_same_rows(
    monkeypatch: pytest.MonkeyPatch, n: int, d: int, k: int, width: float
) -> None:
    """Far apart, within the 8-bit rounding of each other (queries unsure), all equal; one entry far above the rest."""
    rng = np.random.default_rng(5)
    base = rng.normal(size=d) * np.where(np.arange(d) == 0, 30.0, 1.0)
    bank, queries = base + width * rng.normal(size=(n, d)), base + 0.3 * rng.normal(size=(25, d))
    bank[3] = 0.0
    expected = neighbours.top_k(queries, bank, k)[1]
    monkeypatch.setattr(neighbours, "is_faster", lambda *_: True)
    assert (neighbours.top_k(queries, bank, k)[1] == expected).all()


def test_8_bit_products_err_less_than_stated() -> None:
    rng = np.random.default_rng(6)
    bank = neighbours.unit_rows(np.maximum(rng.normal(size=(2000, 128)) - 0.5, 0)).float()
    queries = neighbours.unit_rows(np.maximum(rng.normal(size=(50, 128)) - 0.5, 0)).float()
    found = shortlist.Shortlist(bank, 10)
    products, unit, error = found._products(queries)
    similarity = products[:, :2000].double() * unit[:, None] + (queries @ found.mean).double()[:, None]
    wrong = (similarity - queries.double() @ bank.double().T).abs()
    assert (wrong < error[:, None]).all()
    assert wrong.max() > error.max() / 20  # and the bound is no idle one


def test_blocks_side_by_side_find_the_same() -> None:
    rng = np.random.default_rng(7)
    bank, queries = rng.normal(size=(300, 16)), rng.normal(size=(40, 16))
    expected = neighbours.top_k(queries, bank, 9)
    torch.set_num_threads(2)
    try:
        found = neighbours.top_k(queries, bank, 9, cells=1500)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert (found[1] == expected[1]).all()
    assert (found[0] == expected[0]).all()


def test_classification_equals_scikit_learn() -> None:
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 4, 300)
    bank = rng.normal(size=(300, 16)) + 1.2 * np.eye(4, 16)[labels]
    queries = rng.normal(size=(80, 16)) + 1.2 * np.eye(4, 16)[rng.integers(0, 4, 80)]
    peer = KNeighborsClassifier(15, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.1))
    peer.fit(bank, labels)
    predicted, share = neighbours.classify(queries, bank, labels, 4, 15, 0.1)
    assert (predicted == peer.predict(queries)).all()
    assert share == pytest.approx(peer.predict_proba(queries).max(1), rel=1e-4)


def test_votes_by_hand() -> None:
    similarities = np.array([[1.0, 0.9, 0.8], [0.5, 0.5, 0.1]], dtype=np.float32)
    predicted, share = neighbours.vote(similarities, np.array([[0, 1, 1], [2, 1, 0]]), 3, 0.1)
    weights = np.exp(np.array([10.0, 9.0, 8.0]))
    assert predicted.tolist() == [0, 1]  # e^10 beats e^9 + e^8; the tie of 1 and 2 goes to 1
    assert share[0] == pytest.approx(weights[0] / weights.sum(), rel=1e-5)


def test_tiny_temperatures_do_not_overflow() -> None:
    predicted, share = neighbours.vote(np.array([[1.0, 0.2]], np.float32), np.array([[1, 0]]), 2, 1e-4)
    assert (predicted.tolist(), share.tolist()) == ([1], [1.0])


def test_more_neighbours_than_rows_means_all_rows() -> None:
    similarity, row = neighbours.top_k(np.eye(3), np.eye(3)[:2], 10)
    assert similarity.shape == row.shape == (3, 2)
    assert row.tolist() == [[0, 1], [1, 0], [0, 1]]


def test_zero_rows_are_unlike_everything() -> None:
    similarity, row = neighbours.top_k(np.zeros((1, 2)), np.array([[1.0, 0], [0, 1]]), 2)
    assert (similarity.tolist(), row.tolist()) == ([[0.0, 0.0]], [[0, 1]])


def test_torch_input_gives_the_same() -> None:
    rng = np.random.default_rng(3)
    queries, bank = rng.normal(size=(5, 8)), rng.normal(size=(30, 8))
    assert (
        neighbours.top_k(torch.from_numpy(queries), torch.from_numpy(bank), 4)[1]
        == neighbours.top_k(queries, bank, 4)[1]
    ).all()


@pytest.mark.parametrize(("k", "n", "d"), [(0, 3, 2), (1, 0, 2), (1, 3, 5)])
def test_nonsense_is_refused(k: int, n: int, d: int) -> None:
    with pytest.raises(ValueError, match="filled bank"):
        neighbours.top_k(np.ones((1, 2)), np.ones((n, d)), k)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("ordered", [True, False])
def test_a_gpu_finds_what_the_cpu_finds(ordered: bool) -> None:
    """Bank rows repeat, so that ties are everywhere."""
    rng = np.random.default_rng(0)
    bank = np.repeat(rng.normal(size=(2000, 64)), 2, axis=0).astype(np.float32)
    queries = np.concatenate([bank[:200], rng.normal(size=(300, 64)).astype(np.float32)])
    (near, found), (value, want) = (neighbours.top_k(queries, bank, 20, ordered, device=d) for d in ("cuda", "cpu"))
    np.testing.assert_allclose(near, value, atol=1e-6)
    if ordered:
        assert (found == want).all()
    assert (
        neighbours.classify(queries, bank, np.arange(4000) // 2 % 7, 7, 20, 0.07, "cuda")[0]
        == neighbours.classify(queries, bank, np.arange(4000) // 2 % 7, 7, 20, 0.07)[0]
    ).all()
