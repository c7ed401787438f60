"""InfoNCE and its relatives against loops in float64, with their invariances and edges."""

from __future__ import annotations

import math

import pytest
import torch

from reprise.objectives.info_nce import in_batch_info_nce, info_nce
from reprise.objectives.nt_xent import nt_xent
from stages.pretrain.methods.contrastive.dcl import decoupled_loss
from stages.pretrain.methods.contrastive.moco_v3 import moco_v3_loss
from stages.pretrain.methods.contrastive.nnclr import nearest
from stages.pretrain.methods.contrastive.supcon import supcon_loss
from tests.stages.pretrain.methods.conftest import build, random_batch

T = 0.2


def unit(v: torch.Tensor) -> list[float]:
    length = math.sqrt(sum(float(x) ** 2 for x in v))
    return [float(x) / length for x in v]


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


@pytest.fixture
def pair(rng):
    return torch.randn(2, 6, 5, generator=rng, dtype=torch.float64).unbind()


def test_info_nce_with_a_queue(pair, rng):
    negatives = torch.randn(9, 5, generator=rng, dtype=torch.float64)
    want = 0.0
    for q, k in zip(*pair, strict=True):
        own = math.exp(dot(unit(q), unit(k)) / T)
        others = sum(math.exp(dot(unit(q), unit(n)) / T) for n in negatives)
        want -= math.log(own / (own + others)) / 6
    assert float(info_nce(*pair, negatives, T)) == pytest.approx(want, abs=1e-9)
    order = torch.randperm(9, generator=rng)
    assert float(info_nce(pair[0] * 3, pair[1], 5 * negatives[order], T)) == pytest.approx(want, abs=1e-9)
    assert float(info_nce(*pair, negatives[:0], T)) == 0


def test_moco_v3_is_symmetric_and_scaled(pair, rng):
    k1, k2 = torch.randn(2, 6, 5, generator=rng, dtype=torch.float64).unbind()
    q1, q2 = pair
    want = 0.0
    for q, keys in ((q1, k2), (q2, k1)):
        for i in range(6):
            row = [math.exp(dot(unit(q[i]), unit(k)) / T) for k in keys]
            want -= 2 * T * math.log(row[i] / sum(row)) / 6
    assert float(moco_v3_loss((q1, k1), (q2, k2), T)) == pytest.approx(want, abs=1e-9)
    assert float(moco_v3_loss((q2, k2), (q1, k1), T)) == pytest.approx(want, abs=1e-9)


def test_in_batch_edges():
    same = torch.ones(5, 3)
    assert float(in_batch_info_nce(same, same, T)) == pytest.approx(math.log(5), abs=1e-6)
    assert float(in_batch_info_nce(same[:1], same[:1], T)) == 0


def test_nearest_neighbour_is_the_most_similar_entry(pair, rng):
    support = torch.randn(11, 5, generator=rng, dtype=torch.float64)
    got = nearest(pair[0], support)
    for z, found in zip(pair[0], got, strict=True):
        best = max(support, key=lambda s: dot(unit(z), unit(s)))
        torch.testing.assert_close(found, torch.tensor(unit(best), dtype=torch.float64))
    torch.testing.assert_close(nearest(pair[0], support[:0]).norm(dim=1), torch.ones(6, dtype=torch.float64))
    assert not nearest(pair[0].requires_grad_(), support).requires_grad


@pytest.mark.parametrize("sigma", [None, 0.5])
def test_decoupled_loss(pair, sigma):
    z = [[unit(v) for v in view] for view in pair]
    weights = [1.0] * 6
    if sigma is not None:
        raw = [math.exp(dot(z[0][i], z[1][i]) / sigma) for i in range(6)]
        weights = [2 - r / (sum(raw) / 6) for r in raw]
    want = 0.0
    for view in (0, 1):
        for i in range(6):
            below = sum(math.exp(dot(z[view][i], z[other][j]) / T) for other in (0, 1) for j in range(6) if j != i)
            want += (-weights[i] * dot(z[0][i], z[1][i]) / T + math.log(below)) / 12
    assert float(decoupled_loss(*pair, T, sigma)) == pytest.approx(want, abs=1e-9)
    assert float(decoupled_loss(pair[1], pair[0] * 4, T, sigma)) == pytest.approx(want, abs=1e-9)
    order = [3, 1, 0, 2, 5, 4]
    assert float(decoupled_loss(pair[0][order], pair[1][order], T, sigma)) == pytest.approx(want, abs=1e-9)


def test_decoupled_edges():
    same = torch.ones(4, 3)
    assert float(decoupled_loss(same, same, T)) == pytest.approx(-1 / T + 1 / T + math.log(6), abs=1e-5)
    assert float(decoupled_loss(same[:1], same[:1], T)) == pytest.approx(-1 / T, abs=1e-5)  # the positive alone


def naive_supcon(first, second, labels, mean):
    z, both = [unit(v) for v in (*first, *second)], labels * 2
    total, n = 0.0, len(first)
    for i in range(2 * n):
        others = [k for k in range(2 * n) if k != i]
        positives = [p for p in others if p % n == i % n or (both[p] == both[i] and both[i] >= 0)]
        below = sum(math.exp(dot(z[i], z[k]) / T) for k in others)
        shares = [math.exp(dot(z[i], z[p]) / T) / below for p in positives]
        if mean == "out":
            total -= sum(map(math.log, shares)) / len(positives)
        else:
            total -= math.log(sum(shares) / len(positives))
    return total / (2 * n)


@pytest.mark.parametrize("mean", ["out", "in"])
def test_supervised_contrast(pair, mean):
    labels = [0, 1, 0, -1, -1, 0]
    want = naive_supcon(*pair, labels, mean)
    assert float(supcon_loss(*pair, torch.tensor(labels), T, mean)) == pytest.approx(want, abs=1e-9)
    assert float(supcon_loss(pair[1], pair[0], torch.tensor(labels), T, mean)) == pytest.approx(want, abs=1e-9)
    assert float(supcon_loss(*pair, torch.tensor([7, 3, 7, -1, -1, 7]), T, mean)) == pytest.approx(want, abs=1e-9)


def test_supervised_contrast_without_labels_is_nt_xent(pair):
    first, second = (v.float() for v in pair)
    none = torch.full((6,), -1)
    torch.testing.assert_close(supcon_loss(first, second, none, T), nt_xent(first, second, T))
    torch.testing.assert_close(supcon_loss(first, second, none, T, "in"), nt_xent(first, second, T))
    assert float(supcon_loss(first[:1], second[:1], none[:1], T)) == 0


def test_the_mean_outside_is_the_larger_one(pair):
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    assert supcon_loss(*pair, labels, T, "out") > supcon_loss(*pair, labels, T, "in")  # Jensen (section 3.2.1)


def test_nnclr_s_projections_are_normalised_over_the_batch():
    """Mean 0 and deviation 1 of every dimension, before the support set, the neighbours and the predictor see them."""
    method, seen = build("nnclr", queue=64), []
    method.predictor.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].detach()))
    method.step(random_batch(method, 32))
    assert len(seen) == 2
    for z in seen:
        torch.testing.assert_close(z.mean(0), torch.zeros(8), atol=1e-5, rtol=0)
        torch.testing.assert_close(z.std(0, correction=0), torch.ones(8), atol=1e-2, rtol=0)
    torch.testing.assert_close(method.queue.stored(), torch.nn.functional.normalize(seen[0], dim=1))
    assert method.norm.weight.requires_grad  # an ordinary normalisation, with scale and shift
