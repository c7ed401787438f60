"""Relaxed draws, the rate in clusters and doubly stochastic tables, against restatements with loops in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from reprise.objectives.coding_rate import coding_rate, rate_in_clusters
from reprise.objectives.memberships import divergence, evenness, gumbel_softmax
from reprise.objectives.sinkhorn import doubly_stochastic


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def uniform(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random(shape))


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_a_relaxed_draw(temperature: float) -> None:
    logits, draws = normal(4, 3), uniform(4, 3)
    got = gumbel_softmax(logits, temperature, draws)
    for b in range(4):
        total = sum(math.exp(float(v)) for v in logits[b])
        raw = []
        for k in range(3):
            log_p = math.log(math.exp(float(logits[b, k])) / total)
            raw.append(math.exp((log_p - math.log(-math.log(float(draws[b, k])))) / temperature))
        for k in range(3):
            assert float(got[b, k]) == pytest.approx(raw[k] / sum(raw), abs=1e-9)


def test_draws_are_as_frequent_as_their_probabilities() -> None:
    p = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    drawn = gumbel_softmax(p.log().expand(20_000, 3), 0.1, uniform(20_000, 3)).argmax(dim=1)
    shares = torch.bincount(drawn, minlength=3) / 20_000
    torch.testing.assert_close(shares, p.float(), atol=0.015, rtol=0)  # four standard errors


def test_draws_at_the_ends_stay_finite() -> None:
    draws = torch.tensor([[0.0, 0.999999999999], [0.5, 0.0]])
    got = gumbel_softmax(torch.tensor([[0.0, 1.0], [500.0, -500.0]]), 0.2, draws)
    assert torch.isfinite(got).all()
    torch.testing.assert_close(got.sum(dim=1), torch.ones(2))


def test_divergence_and_evenness() -> None:
    own, prior = normal(4, 3), normal(4, 3, seed=3)
    got = divergence(own, prior)
    for b in range(4):
        q = [math.exp(float(v)) for v in own[b]]
        p = [math.exp(float(v)) for v in prior[b]]
        q, p = [v / sum(q) for v in q], [v / sum(p) for v in p]
        assert float(got[b]) == pytest.approx(sum(a * math.log(a / b) for a, b in zip(q, p, strict=True)), abs=1e-9)
    assert float(divergence(own, own + 3).abs().max()) < 1e-12
    assert float(evenness(torch.full((5, 4), 0.25))) == pytest.approx(1)
    assert float(evenness(torch.eye(4))) == pytest.approx(1)
    assert float(evenness(torch.eye(4)[[1, 1]])) == pytest.approx(0)


def logdet(matrix: np.ndarray) -> float:
    """By the eigenvalues, as no other function here."""
    return float(sum(math.log(v) for v in np.linalg.eigvalsh(matrix)))


@pytest.mark.parametrize(("rows", "width", "clusters"), [(9, 4, 3), (4, 6, 2), (5, 3, 5)])
def test_the_rate_in_clusters(rows: int, width: int, clusters: int) -> None:
    """The d x d determinants of the objective against m x m ones, of which there is one for each cluster."""
    z, memberships = normal(rows, width), torch.softmax(normal(rows, clusters, seed=2), dim=1)
    want = 0.0
    for k in range(clusters):
        share = memberships[:, k].numpy()
        weighed = np.sqrt(share)[:, None] * z.numpy()
        square = np.eye(rows) + width / (share.sum() * 0.2) * weighed @ weighed.T
        want += share.sum() / rows * 0.5 * logdet(square)
    assert float(rate_in_clusters(z, memberships, 0.2)) == pytest.approx(want, abs=1e-9)
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(0))
    assert float(rate_in_clusters(z[order], memberships[order], 0.2)) == pytest.approx(want, abs=1e-9)


def test_one_cluster_needs_what_all_need_and_empty_ones_nothing() -> None:
    z = normal(7, 3)
    alone = torch.ones(7, 1, dtype=torch.float64)
    assert float(rate_in_clusters(z, alone, 0.5)) == pytest.approx(float(coding_rate(z, 0.5)), abs=1e-9)
    beside = torch.cat([alone, torch.zeros(7, 2, dtype=torch.float64)], dim=1).requires_grad_()
    found = rate_in_clusters(z, beside, 0.5)
    assert float(found.detach()) == pytest.approx(float(coding_rate(z, 0.5)), abs=1e-9)
    found.backward()
    assert beside.grad is not None
    assert torch.isfinite(beside.grad).all()


def test_clusters_in_different_directions_need_less() -> None:
    """Two orthogonal lines: told apart they need half as much per image as mixed, and the reduction is positive."""
    z = torch.eye(4, dtype=torch.float64)[[0, 0, 0, 1, 1, 1]]
    right = torch.eye(2, dtype=torch.float64)[[0, 0, 0, 1, 1, 1]]
    wrong = torch.eye(2, dtype=torch.float64)[[0, 1, 0, 1, 0, 1]]
    rates = [float(rate_in_clusters(z, pi, 0.1)) for pi in (right, wrong)]
    assert rates[0] < rates[1]
    assert rates[0] == pytest.approx(0.5 * math.log(1 + 4 / 0.1), abs=1e-9)
    assert float(coding_rate(z, 0.1)) > rates[0]


def test_a_table_becomes_doubly_stochastic() -> None:
    affinity = normal(12, 12)
    affinity = (affinity + affinity.T).abs() / 6
    want = np.exp(affinity.numpy() / 0.175)
    for step in range(5):
        want = want / want.sum(axis=1 - step % 2, keepdims=True)
    got = doubly_stochastic(affinity, 0.175, 5)
    np.testing.assert_allclose(got.numpy(), want, atol=1e-9)
    np.testing.assert_allclose(got.sum(dim=1).numpy(), 1, atol=1e-12)


@pytest.mark.parametrize("spread", [0.0, 0.05, 10.0])
def test_rows_are_exact_and_columns_near_after_five_half_steps(spread: float) -> None:
    """Codes as MLC has them, compared by the size of their cosine: in a few directions, or in all of them."""
    codes = torch.eye(16)[torch.arange(128) % 8] + spread * normal(128, 16).float()
    codes = torch.nn.functional.normalize(codes, dim=1)
    got = doubly_stochastic((codes @ codes.T).abs(), 0.175, 5)
    torch.testing.assert_close(got.sum(dim=1), torch.ones(128), atol=1e-6, rtol=0)
    assert float((got.sum(dim=0) - 1).abs().max()) < 1e-2
    assert float((got - got.T).abs().max()) < 1e-2
    exact = doubly_stochastic((codes @ codes.T).abs(), 0.175, 201)
    torch.testing.assert_close(exact.sum(dim=0), torch.ones(128), atol=1e-5, rtol=0)


def test_sharp_affinities_do_not_overflow() -> None:
    got = doubly_stochastic(100 * torch.eye(3), 0.05, 5)
    torch.testing.assert_close(got, torch.eye(3))
    half = doubly_stochastic((100 * torch.eye(3)).bfloat16(), 0.05, 5)
    assert half.dtype == torch.float32
