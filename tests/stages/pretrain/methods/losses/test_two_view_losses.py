"""Losses without negatives against loops in float64, with their invariances and edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from reprise.objectives.decorrelation.variance_covariance import covariance_term, variance_term
from stages.pretrain.methods.decorrelation.barlow_twins import EPSILON, barlow_loss, cross_correlation
from stages.pretrain.methods.decorrelation.vicreg import invariance_term
from stages.pretrain.methods.distillation.byol import byol_loss
from stages.pretrain.methods.distillation.distill import cosine_loss, relational_loss
from stages.pretrain.methods.distillation.simsiam import simsiam_loss
from tests.stages.pretrain.methods.conftest import build, random_batch


@pytest.fixture
def pair(rng):
    return torch.randn(2, 7, 4, generator=rng, dtype=torch.float64).unbind()


def cosine(a, b) -> float:
    a, b = a.detach().numpy(), b.detach().numpy()
    return float(a @ b / math.sqrt(a @ a) / math.sqrt(b @ b))


def test_byol_is_the_squared_distance_of_unit_vectors(pair):
    want = 0.0
    for p, z in zip(*pair, strict=True):
        difference = (p / p.norm() - z / z.norm()).tolist()
        want += sum(x * x for x in difference) / 7
    assert float(byol_loss(*pair)) == pytest.approx(want, abs=1e-9)
    assert float(byol_loss(pair[1] * 3, pair[0])) == pytest.approx(want, abs=1e-9)
    assert float(byol_loss(pair[0], pair[0] * 2)) == pytest.approx(0, abs=1e-12)
    assert float(byol_loss(pair[0], -pair[0])) == pytest.approx(4, abs=1e-12)


def test_simsiam_is_symmetric_and_stops_the_targets(pair, rng):
    z1, z2 = (v.clone().requires_grad_() for v in pair)
    p1, p2 = (v.requires_grad_() for v in torch.randn(2, 7, 4, generator=rng, dtype=torch.float64).unbind())
    loss = simsiam_loss(p1, p2, z1, z2)
    want = -sum(cosine(p1[i], z2[i]) / 2 + cosine(p2[i], z1[i]) / 2 for i in range(7)) / 7
    assert float(loss.detach()) == pytest.approx(want, abs=1e-9)
    assert float(simsiam_loss(p2, p1, z2, z1).detach()) == pytest.approx(want, abs=1e-9)
    loss.backward()
    assert z1.grad is None
    assert z2.grad is None
    assert (p1.grad.abs().sum(1) > 0).all()
    assert (p2.grad.abs().sum(1) > 0).all()


def naive_barlow(first, second, redundancy):
    n, d = first.shape
    first, second = first.numpy(), second.numpy()
    total = 0.0
    for i in range(d):
        for j in range(d):
            a, b = first[:, i], second[:, j]
            deviation_a = math.sqrt(sum((x - a.mean()) ** 2 for x in a) / n + EPSILON)  # biased: n, not n - 1
            deviation_b = math.sqrt(sum((x - b.mean()) ** 2 for x in b) / n + EPSILON)
            c = sum((a[k] - a.mean()) * (b[k] - b.mean()) for k in range(n)) / n / deviation_a / deviation_b
            total += (1 - c) ** 2 if i == j else redundancy * c * c
    return total


def test_barlow_twins(pair):
    want = naive_barlow(*pair, 0.05)
    assert float(barlow_loss(*pair, 0.05)) == pytest.approx(want, abs=1e-9)
    assert float(barlow_loss(pair[1], pair[0], 0.05)) == pytest.approx(want, abs=1e-9)
    order = torch.tensor([3, 1, 0, 2, 6, 5, 4])
    assert float(barlow_loss(pair[0][order], pair[1][order], 0.05)) == pytest.approx(want, abs=1e-9)
    assert float(barlow_loss(pair[0] * 100 + 3, pair[1] * 100, 0.05)) == pytest.approx(want, abs=1e-3)


def test_barlow_twins_of_equal_views_has_a_diagonal_of_one(pair):
    torch.testing.assert_close(
        cross_correlation(pair[0], pair[0]).diagonal(), torch.ones(4, dtype=torch.float64), atol=1e-4, rtol=0
    )
    assert float(barlow_loss(torch.ones(5, 4), torch.ones(5, 4), 0.05)) == 4  # equal images: d
    assert float(barlow_loss(torch.ones(1, 4), torch.ones(1, 4), 0.05)) == 4


def test_vicreg_terms(pair):
    z, other = pair
    columns = z.numpy().T
    squared = [(float(a) - float(b)) ** 2 for a, b in zip(z.flatten(), other.flatten(), strict=True)]
    assert float(invariance_term(z, other, "mean")) == pytest.approx(sum(squared) / 28, abs=1e-9)
    assert float(invariance_term(z, other, "sum")) == pytest.approx(sum(squared) / 7, abs=1e-9)
    scaled = 0.5 * z
    want = 0.0
    for c in columns:
        deviation = math.sqrt(0.25 * sum((x - c.mean()) ** 2 for x in c) / 6 + 1e-4)  # unbiased: n - 1
        want += max(0.0, 1 - deviation) / 4
    assert want > 0.1
    assert float(variance_term(scaled)) == pytest.approx(want, abs=1e-9)
    want = 0.0
    for i in range(4):
        for j in range(4):
            if i != j:
                c = ((columns[i] - columns[i].mean()) * (columns[j] - columns[j].mean())).sum() / 6
                want += c * c / 4
    assert float(covariance_term(z)) == pytest.approx(want, abs=1e-9)


def test_vicreg_invariances_and_edges(pair):
    z = pair[0]
    order = torch.tensor([3, 1, 0, 2, 6, 5, 4])
    for term in (variance_term, covariance_term):
        torch.testing.assert_close(term(z[order] + 5.0), term(z))
    assert float(variance_term(10 * z)) == 0  # the hinge: no dimension is asked for more than deviation 1
    equal = torch.ones(6, 4, requires_grad=True)
    variance_term(equal).backward()
    assert torch.isfinite(equal.grad).all()
    assert float(variance_term(equal.detach())) == pytest.approx(1 - math.sqrt(1e-4), abs=1e-6)
    assert float(variance_term(z[:1])) == pytest.approx(0.99, abs=1e-9)  # a batch of one varies by nothing
    assert float(covariance_term(z[:1])) == 0
    assert np.isfinite(float(invariance_term(z[:1], pair[1][:1], "mean")))


def test_distillation_by_angle_and_by_distances_against_loops(pair):
    student, teacher = (v.clone().requires_grad_() for v in pair)
    want = sum(1 - cosine(s, t) for s, t in zip(student, teacher, strict=True)) / 7
    assert float(cosine_loss(student, teacher).detach()) == pytest.approx(want, abs=1e-9)
    assert float(cosine_loss(3 * teacher, teacher).detach()) == pytest.approx(0, abs=1e-9)
    apart = []
    for x in pair:
        found = [math.dist(x[i].tolist(), x[j].tolist()) for i in range(7) for j in range(i + 1, 7)]
        apart.append([value / (sum(found) / 21) for value in found])
    errors = [abs(a - b) for a, b in zip(*apart, strict=True)]
    want = sum(e * e / 2 if e <= 1 else e - 0.5 for e in errors) / 21
    assert float(relational_loss(student, teacher).detach()) == pytest.approx(want, abs=1e-9)
    assert float(relational_loss(5 * teacher, teacher).detach()) == pytest.approx(0, abs=1e-9)  # of no scale
    (cosine_loss(student, teacher) + relational_loss(student, teacher.detach())).backward()
    assert (student.grad.abs().sum(1) > 0).all()


def test_the_relational_form_stays_finite_where_all_images_fall_together():
    same = torch.ones(5, 3, dtype=torch.float64, requires_grad=True)
    loss = relational_loss(same, torch.randn(5, 3, dtype=torch.float64))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(same.grad).all()


def test_a_distilled_student_moves_towards_its_teacher_which_stays():
    for options in ({"cosine": 1.0}, {"cosine": 0.0, "relational": 1.0}):
        method = build("distill", **options)
        before = {n: p.clone() for n, p in method.source.state_dict().items()}
        optimizer, losses = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.1), []
        for _ in range(30):
            loss, logs = method.step(random_batch(method, size=16))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        assert losses[-1] < 0.7 * losses[0], options
        assert logs["features"].shape == (16, 12)
        assert all(torch.equal(before[n], p) for n, p in method.source.state_dict().items())
