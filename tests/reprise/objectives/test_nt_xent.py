"""NT-Xent against a restatement with loops in float64, and its invariances."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from reprise.objectives.nt_xent import nt_xent


def naive(
    first: np.ndarray,
    second: np.ndarray,
    temperature: float,
    clusters: list[int] | None = None,
    confidences: list[float] | None = None,
) -> float:
    """Equation 1 of the paper, averaged over the 2B ordered positives; negatives of one cluster left out or weighed."""
    z = np.concatenate([first, second]).astype(np.float64)
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    count, total = len(first), 0.0
    for i in range(2 * count):
        partner = (i + count) % (2 * count)
        below = 0.0
        for k in range(2 * count):
            same = clusters is not None and clusters[i % count] >= 0 and clusters[i % count] == clusters[k % count]
            weight = 1.0
            if same and k != partner:
                weight = 0.0 if confidences is None else 1.0 - confidences[i % count] * confidences[k % count]
            if k != i:
                below += weight * math.exp(z[i] @ z[k] / temperature)
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


WEIGHED = ([0, 0, 1, -1, -1, 1, 0], [0.9, 0.3, 1.0, 0.8, 0.0, 1.0, 0.5])


def test_sure_images_of_one_cluster_count_less_as_negatives():
    """1 - c_i c_k times: to 1e-6 of the loops in float64, and in any order of the images."""
    clusters, confidences = WEIGHED
    first, second = np.random.default_rng(4).normal(size=(2, 7, 5)).astype(np.float32)
    inputs = [torch.from_numpy(first), torch.from_numpy(second), torch.tensor(clusters), torch.tensor(confidences)]
    got = nt_xent(inputs[0], inputs[1], 0.5, *inputs[2:])
    assert float(got) == pytest.approx(naive(first, second, 0.5, clusters, confidences), abs=1e-6)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    a, b, c, d = (x[order] for x in inputs)
    torch.testing.assert_close(nt_xent(a, b, 0.5, c, d), got, atol=1e-6, rtol=1e-6)
    masked, plain = naive(first, second, 0.5, clusters), naive(first, second, 0.5)
    assert masked < float(got) < plain


def test_certain_images_are_masked_and_unsure_ones_are_not():
    """Both ends, with their gradients, to the bit."""
    clusters = torch.tensor(WEIGHED[0])

    def loss_and_gradient(*labels: torch.Tensor) -> list[torch.Tensor]:
        z = torch.randn(14, 5, generator=torch.Generator().manual_seed(1)).requires_grad_()
        loss = nt_xent(z[:7], z[7:], 0.2, *labels)
        loss.backward()
        return [loss.detach(), z.grad]

    for confidence, want in ((torch.ones(7), loss_and_gradient(clusters)), (torch.zeros(7), loss_and_gradient())):
        assert all(map(torch.equal, loss_and_gradient(clusters, confidence), want))
    without_labels = loss_and_gradient(
        torch.full((7,), -1), torch.ones(7)
    )  # a confidence without a label weighs nothing
    assert all(map(torch.equal, without_labels, loss_and_gradient()))


def test_gradient_is_finite_where_negatives_are_weighed_away():
    z = torch.randn(8, 3, generator=torch.Generator().manual_seed(2)).requires_grad_()
    nt_xent(z[:4], z[4:], 0.1, torch.tensor([0, 0, 1, 2]), torch.tensor([1.0, 1.0, 0.5, 1.0])).backward()
    assert z.grad.isfinite().all()
    assert (z.grad.abs().sum(1) > 0).all()
    z.grad = None
    loss = nt_xent(z[:4], z[4:], 0.1, torch.zeros(4, dtype=torch.int64), torch.ones(4))  # no negative is left
    loss.backward()
    assert float(loss.detach()) == 0
    assert (z.grad == 0).all()


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
