"""NT-Xent against a restatement with loops in float64, and its invariances."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from stages.pretrain.parts.nt_xent import nt_xent


def naive(first: np.ndarray, second: np.ndarray, temperature: float, clusters: list[int] | None = None) -> float:
    """Equation 1 of the paper, averaged over the 2B ordered positives."""
    z = np.concatenate([first, second]).astype(np.float64)
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    count, total = len(first), 0.0
    for i in range(2 * count):
        partner = (i + count) % (2 * count)
        below = 0.0
        for k in range(2 * count):
            same = clusters is not None and clusters[i % count] >= 0 and clusters[i % count] == clusters[k % count]
            if k == i or (same and k != partner):
                continue
            below += math.exp(z[i] @ z[k] / temperature)
        total += -math.log(math.exp(z[i] @ z[partner] / temperature) / below)
    return total / (2 * count)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_equals_the_naive_restatement(count, temperature):
    rng = np.random.default_rng(count)
    first, second = rng.normal(size=(2, count, 5)).astype(np.float32)
    got = nt_xent(torch.from_numpy(first), torch.from_numpy(second), temperature)
    assert float(got) == pytest.approx(naive(first, second, temperature), abs=2e-6)


def test_masking_leaves_out_images_of_one_cluster_and_keeps_the_positive():
    rng = np.random.default_rng(3)
    first, second = rng.normal(size=(2, 6, 4)).astype(np.float32)
    clusters = [0, 0, 1, -1, -1, 1]
    got = nt_xent(torch.from_numpy(first), torch.from_numpy(second), 0.3, torch.tensor(clusters))
    assert float(got) == pytest.approx(naive(first, second, 0.3, clusters), abs=2e-6)
    unlabelled = nt_xent(torch.from_numpy(first), torch.from_numpy(second), 0.3, torch.full((6,), -1))
    assert float(unlabelled) == pytest.approx(naive(first, second, 0.3), abs=2e-6)


def test_order_scale_rotation_and_swapping_views_do_not_matter():
    torch.manual_seed(0)
    first, second = torch.randn(9, 6), torch.randn(9, 6)
    order = torch.randperm(9)
    rotation, _ = torch.linalg.qr(torch.randn(6, 6))
    want = nt_xent(first, second, 0.2)
    for got in (
        nt_xent(first[order], second[order], 0.2),
        nt_xent(first * 7, second * torch.rand(9, 1).add(0.1), 0.2),
        nt_xent(first @ rotation, second @ rotation, 0.2),
        nt_xent(second, first, 0.2),
    ):
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


def test_gradient_reaches_both_views_and_equal_images_stay_finite():
    first, second = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    nt_xent(first, second, 0.1).backward()
    assert (first.grad.abs().sum(1) > 0).all()
    assert (second.grad.abs().sum(1) > 0).all()
    same = torch.ones(5, 3)
    assert float(nt_xent(same, same, 0.1)) == pytest.approx(math.log(9), abs=1e-5)


def test_bf16_projections_are_computed_in_float32():
    first, second = torch.randn(32, 8).bfloat16(), torch.randn(32, 8).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = nt_xent(first, second, 0.07)
    assert got.dtype == torch.float32
    want = naive(first.float().numpy(), second.float().numpy(), 0.07)
    assert float(got) == pytest.approx(want, abs=2e-6)
