"""Losses on pairs restated with plain loops in float64, and what they ask of repeated images and of weights."""

from __future__ import annotations

import math

import pytest
import torch

from stages.pretrain.methods.pairs.pair_contrast import pair_contrast_loss
from stages.pretrain.methods.pairs.triplet import triplet_loss
from tests.stages.pretrain.methods.conftest import build, random_batch

# Image 4 is the anchor at place 1 and the partner of 7; image 2 is the partner of 4 and of 9.
ROWS = torch.tensor([7, 4, 9, 5, 4, 2, 2, 3])
PARTNER = torch.tensor([4, 5, 6, 7, 0, 1, 2, 3])
WEIGHTS = torch.tensor([0.9, 0.4, 0.6, 1.0]).repeat(2).double()


def cosines(z: torch.Tensor) -> list[list[float]]:
    return [[float((a @ b) / (a.norm() * b.norm())) for b in z] for a in z]


def negatives(i: int) -> list[int]:
    return [k for k in range(8) if ROWS[k] not in (ROWS[i], ROWS[PARTNER[i]])]


def weighted(each: list[float], power: float) -> float:
    counted = [float(w) ** power for w in WEIGHTS]
    return sum(w * value for w, value in zip(counted, each, strict=True)) / sum(counted)


@pytest.fixture
def z(rng) -> torch.Tensor:
    return torch.randn(8, 5, dtype=torch.float64, generator=rng).requires_grad_()


@pytest.mark.parametrize("power", [0.0, 1.0, 2.5])
def test_pair_contrast_is_its_formula(z, power):
    c, each = cosines(z.detach()), []
    for i in range(8):
        p = int(PARTNER[i])
        total = sum(math.exp(c[i][k] / 0.3) for k in [p, *negatives(i)])
        each.append(-math.log(math.exp(c[i][p] / 0.3) / total))
    loss = pair_contrast_loss(z, ROWS, PARTNER, WEIGHTS, 0.3, power)
    assert float(loss.detach()) == pytest.approx(weighted(each, power), rel=1e-6)
    assert torch.autograd.gradcheck(lambda x: pair_contrast_loss(x, ROWS, PARTNER, WEIGHTS, 0.3, power), z)


@pytest.mark.parametrize(("hardest", "power"), [(None, 0.0), (1, 0.0), (3, 1.0), (50, 1.0)])
def test_triplet_is_its_formula(z, hardest, power):
    c, each = cosines(z.detach()), []
    for i in range(8):
        chosen = sorted(negatives(i), key=lambda k: -c[i][k])[:hardest]
        distances = [(1 - c[i][int(PARTNER[i])]) - (1 - c[i][k]) + 0.5 for k in chosen]
        each.append(sum(max(0.0, d) for d in distances) / len(chosen))
    loss = triplet_loss(z, ROWS, PARTNER, WEIGHTS, 0.5, hardest, power)
    assert float(loss.detach()) == pytest.approx(weighted(each, power), rel=1e-6)
    assert torch.autograd.gradcheck(lambda x: triplet_loss(x, ROWS, PARTNER, WEIGHTS, 0.5, hardest, power), z)


def test_an_unsure_pair_counts_less_and_a_doubtful_one_hardly_at_all(z):
    """The gradient of a pair falls with its weight; those of the others grow by what it loses."""
    shares = []
    for weight in (1.0, 0.1, 1e-9):
        weights = WEIGHTS.clone()
        weights[[0, 4]] = weight
        own = torch.zeros(8, dtype=torch.float64)
        own[[0, 4]] = weight
        whole = pair_contrast_loss(z, ROWS, PARTNER, weights, 0.3, 1.0)
        (gradient,) = torch.autograd.grad(whole, z)
        shares.append(float(gradient[0].norm()))
    alone = pair_contrast_loss(z, ROWS, PARTNER, torch.where(own > 0, 1e-12, WEIGHTS), 0.3, 1.0)
    (without,) = torch.autograd.grad(alone, z)
    assert shares[0] > shares[1] > shares[2]
    torch.testing.assert_close(gradient, without, atol=1e-8, rtol=1e-6)


def test_a_batch_without_negatives_is_no_loss():
    z, rows, partner = torch.randn(2, 3, dtype=torch.float64), torch.tensor([5, 6]), torch.tensor([1, 0])
    assert float(pair_contrast_loss(z, rows, partner, torch.ones(2), 0.2, 1.0)) == 0
    assert float(triplet_loss(z, rows, partner, torch.ones(2), 0.5, 4)) == 0


def test_triplets_turn_to_hard_negatives_when_the_time_has_come():
    method = build("triplet", hard_after=0.5)
    batch, losses = random_batch(method), []
    for progress in (0.4, 0.6):
        method.after_step(progress)
        losses.append(float(method.step(batch)[0].detach()))
    z = method.projector(method.backbone(batch.views[0]))
    shared = (z, batch.rows, batch.partner, batch.weights, 0.5)
    assert losses == [pytest.approx(float(triplet_loss(*shared, hardest=h).detach()), rel=1e-5) for h in (None, 2)]
    assert losses[0] < losses[1]


def test_what_is_not_declared_is_not_there():
    batch = random_batch(build("simclr"))
    with pytest.raises(KeyError, match=r"reads batch\.partner: it must set `needs_pairs`"):
        _ = batch.partner
