"""SwAV, DINO, EMP-SSL, W-MSE and LeJEPA against loops in float64, with their invariances and edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from reprise.config.errors import TrainingError
from reprise.config.tables import RunRow
from stages.pretrain.inputs.images import refuse_batches
from stages.pretrain.methods.clustering.swav import swapped_prediction
from stages.pretrain.methods.decorrelation.emp_ssl import emp_ssl_loss
from stages.pretrain.methods.decorrelation.lejepa import lejepa_loss, sigreg
from stages.pretrain.methods.decorrelation.w_mse import sub_batches, w_mse_loss, whiten
from stages.pretrain.methods.distillation.dino import dino_loss
from tests.stages.pretrain.methods.conftest import SETTINGS, build, random_batch


def softmax(values, temperature):
    exps = [math.exp(float(v) / temperature) for v in values]
    return [e / sum(exps) for e in exps]


def crops(rng, count, size=3, width=5):
    return list(torch.randn(count, size, width, generator=rng, dtype=torch.float64).unbind())


def test_swapped_prediction(rng):
    scores = crops(rng, 4)
    codes = [torch.softmax(c, dim=1) for c in crops(rng, 2)]
    want = 0.0
    for i in (0, 1):
        for v in range(4):
            if v != i:
                for b in range(3):
                    p = softmax(scores[v][b], 0.1)
                    want -= sum(float(codes[i][b, k]) * math.log(p[k]) for k in range(5)) / 3 / 3 / 2
    assert float(swapped_prediction(scores, codes, 0.1)) == pytest.approx(want, abs=1e-9)
    swapped = [scores[1], scores[0], scores[3], scores[2]]
    assert float(swapped_prediction(swapped, codes[::-1], 0.1)) == pytest.approx(want, abs=1e-9)
    order = torch.tensor([2, 0, 1])
    permuted = swapped_prediction([s[order] for s in scores], [c[order] for c in codes], 0.1)
    assert float(permuted) == pytest.approx(want, abs=1e-9)


def test_dino(rng):
    student, teacher, centre = crops(rng, 4), crops(rng, 2), torch.randn(5, generator=rng, dtype=torch.float64)
    want, pairs = 0.0, 0
    for i in (0, 1):
        for j in range(4):
            if i == j:
                continue
            pairs += 1
            for b in range(3):
                target = softmax(teacher[i][b] - centre, 0.04)
                p = softmax(student[j][b], 0.1)
                want -= sum(t * math.log(q) for t, q in zip(target, p, strict=True)) / 3
    assert float(dino_loss(student, teacher, centre, 0.1, 0.04)) == pytest.approx(want / pairs, abs=1e-9)
    moved = dino_loss([s + 3 for s in student], [t + 5 for t in teacher], centre + 5, 0.1, 0.04)
    assert float(moved) == pytest.approx(want / pairs, abs=1e-9)


def test_dino_stops_the_teacher_and_knows_its_schedule(rng):
    teacher = [c.requires_grad_() for c in crops(rng, 2)]
    student = [c.requires_grad_() for c in crops(rng, 3)]
    dino_loss(student, teacher, torch.zeros(5), 0.1, 0.04).backward()
    assert all(t.grad is None for t in teacher)
    assert all((s.grad.abs().sum(1) > 0).all() for s in student)
    method = build("dino", teacher_temperature=0.04, teacher_temperature_end=0.08, temperature_warmup=0.5)
    found = []
    for progress in (0.0, 0.25, 0.5, 1.0):
        method.progress.fill_(progress)
        found.append(method.temperature)
    assert found == pytest.approx([0.04, 0.06, 0.08, 0.08])


@pytest.mark.parametrize("name", ["swav", "dino"])
def test_the_last_layer_is_frozen_at_first_and_gradients_are_clipped(name):
    method = build(name, frozen_for=0.5)
    loss, _ = method.step(random_batch(method))
    (1e4 * loss).backward()
    method.after_backward(0.6)
    assert method.prototypes.weight.grad is not None
    if name == "dino":
        norms = [float(p.grad.norm()) for p in method.parameters() if p.grad is not None]
        assert max(norms) == pytest.approx(3.0, rel=1e-4)
    method.after_backward(0.4)
    assert method.prototypes.weight.grad is None


def test_swav_uses_its_queue_when_it_is_full_and_its_time_has_come():
    method = build("swav", queue=16, queue_from=0.5)
    scores = method.prototypes(torch.randn(8, 8, generator=torch.Generator().manual_seed(1)))
    alone = method._assigned(scores, 0)
    for progress, fill, same in ((0.0, 16, True), (0.6, 8, True), (0.6, 16, False)):
        queue = build("swav", queue=16).queues[0]
        queue.push(torch.nn.functional.normalize(torch.randn(fill, 8, generator=torch.Generator().manual_seed(2))))
        method.queues[0] = queue
        method.progress.fill_(progress)
        got = method._assigned(scores, 0)
        assert got.shape == alone.shape
        assert torch.equal(got, alone) == same
        torch.testing.assert_close(got.sum(dim=1), torch.ones(8))
    assert not build("swav", queue=0).queues
    assert len(build("swav", queue=10_000, images=20).queues[0].entries) == 20  # no more than there are images


def test_emp_ssl(rng):
    z = torch.randn(3, 6, 4, generator=rng, dtype=torch.float64)
    u = z.numpy() / np.linalg.norm(z.numpy(), axis=2, keepdims=True)
    rate = np.mean([np.linalg.slogdet(np.eye(4) + 4 / (6 * 0.2) * v.T @ v)[1] / 2 for v in u])
    agreement = 0.0
    for b in range(6):
        mean = u[:, b].mean(axis=0)
        for v in range(3):
            agreement += u[v, b] @ mean / np.linalg.norm(mean) / 18
    loss, got_rate, got_agreement = emp_ssl_loss(z, 200.0, 0.2)
    assert float(got_rate) == pytest.approx(rate, abs=1e-9)
    assert float(got_agreement) == pytest.approx(agreement, abs=1e-9)
    assert float(loss) == pytest.approx(-rate + 200 * (1 - agreement), abs=1e-7)
    assert float(emp_ssl_loss(5 * z[[2, 0, 1]], 200.0, 0.2)[0]) == pytest.approx(float(loss), abs=1e-7)


def test_emp_ssl_prefers_spread_to_collapse():
    """The sign: equal representations must lose, though their views agree perfectly."""
    spread = torch.eye(4).repeat(2, 2, 1)
    collapsed = torch.ones(2, 8, 4)
    assert emp_ssl_loss(spread, 200.0, 0.2)[0] < emp_ssl_loss(collapsed, 200.0, 0.2)[0]
    assert float(emp_ssl_loss(collapsed, 200.0, 0.2)[1]) == pytest.approx(0.5 * math.log(1 + 4 / 0.2), abs=1e-5)


def test_patches_have_a_fixed_scale():
    plan = build("emp_ssl").view_plan(SETTINGS)
    crops = [s.cut.params for s in plan]
    assert [s.size for s in plan] == [8] * 4
    assert [(crop.scale_min, crop.scale_max) for crop in crops] == [(0.25, 0.25)] * 4


def test_whitened_vectors_have_the_identity_covariance(rng):
    z = torch.randn(20, 4, generator=rng, dtype=torch.float64) @ torch.randn(4, 4, generator=rng, dtype=torch.float64)
    white = whiten(z + 7, 0.0)
    torch.testing.assert_close(white.mean(dim=0), torch.zeros(4, dtype=torch.float64))
    torch.testing.assert_close(torch.cov(white.T), torch.eye(4, dtype=torch.float64))
    covariance = np.cov(z.numpy().T)
    factor = np.linalg.inv(np.linalg.cholesky(0.9 * covariance + 0.1 * np.eye(4)))
    for got, row in zip(whiten(z, 0.1), z.numpy() - z.numpy().mean(axis=0), strict=True):
        np.testing.assert_allclose(got.numpy(), factor @ row, atol=1e-9)


@pytest.mark.parametrize("together", [False, True])
def test_w_mse(rng, together):
    first, second = torch.randn(2, 12, 3, generator=rng, dtype=torch.float64).unbind()
    parts = [torch.arange(6), torch.arange(6, 12)]
    want = 0.0
    for rows in parts:
        if together:
            both = whiten(torch.cat([first[rows], second[rows]]), 0.01)
            a, b = both[:6], both[6:]
        else:
            a, b = whiten(first[rows], 0.01), whiten(second[rows], 0.01)
        for p, q in zip(a.numpy(), b.numpy(), strict=True):
            d = p / np.linalg.norm(p) - q / np.linalg.norm(q)
            want += float(d @ d) / 12
    assert float(w_mse_loss(first, second, parts, 0.01, together)) == pytest.approx(want, abs=1e-9)
    if not together:  # whitening undoes any scale and shift of a view when nothing is mixed in
        torch.testing.assert_close(w_mse_loss(4 * first + 1, second, parts, 0.0), w_mse_loss(first, second, parts, 0.0))


def test_sub_batches_are_a_cut_of_all_rows():
    torch.manual_seed(0)
    parts = sub_batches(21, 8, 3)
    assert len(parts) == 6
    for i in (0, 2, 4):
        assert sorted(torch.cat(parts[i : i + 2]).tolist()) == list(range(21))
    assert [len(p) for p in sub_batches(5, 8, 1)] == [5]


def test_a_batch_smaller_than_the_width_is_refused_before_the_first_step():
    method, row = build("w_mse", output=16), RunRow(name="white", method="w_mse", labels="none")
    refuse_batches(row, method, 100, 50)
    with pytest.raises(TrainingError, match="needs at least 17 images in every batch.*smallest of 16"):
        refuse_batches(row, method, 80, 16)
    with pytest.raises(TrainingError, match="needs at least 2 images.*smallest of 1"):
        refuse_batches(row, build("byol"), 3, 2)
    refuse_batches(row, build("random"), 3, 2)


def naive_sigreg(z, directions, knots, limit):
    total, n = 0.0, len(z)
    for a in directions.T:
        values = []
        for t in np.linspace(-limit, limit, 2 * knots - 1):
            real = sum(math.cos(t * float(x @ a)) for x in z) / n
            imaginary = sum(math.sin(t * float(x @ a)) for x in z) / n
            values.append(((real - math.exp(-t * t / 2)) ** 2 + imaginary**2) * math.exp(-t * t / 2))
        step = 2 * limit / (2 * knots - 2)
        total += n * step * (sum(values) - (values[0] + values[-1]) / 2) / directions.shape[1]
    return total


def test_sigreg_is_the_epps_pulley_statistic(rng):
    z = torch.randn(9, 3, generator=rng, dtype=torch.float64)
    directions = torch.nn.functional.normalize(torch.randn(3, 4, generator=rng, dtype=torch.float64), dim=0)
    want = naive_sigreg(z.numpy(), directions.numpy(), 17, 3.0)
    assert float(sigreg(z, directions, 17, 3.0)) == pytest.approx(want, abs=1e-9)
    assert float(sigreg(-z, directions, 17, 3.0)) == pytest.approx(want, abs=1e-9)
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, generator=rng, dtype=torch.float64))
    assert float(sigreg(z @ rotation, rotation.T @ directions, 17, 3.0)) == pytest.approx(want, abs=1e-9)


def test_sigreg_tells_a_gaussian_from_what_is_not(rng):
    directions = torch.nn.functional.normalize(torch.randn(4, 64, generator=rng), dim=0)
    gaussian = torch.randn(2000, 4, generator=rng)
    good = float(sigreg(gaussian, directions, 17, 3.0))
    for other in (torch.zeros(2000, 4), 2 * gaussian, gaussian + 1, gaussian.sign()):
        assert float(sigreg(other, directions, 17, 3.0)) > 10 * good
    assert math.isfinite(float(sigreg(gaussian[:1], directions, 17, 3.0)))


def test_lejepa_weighs_agreement_and_normality(rng):
    z = torch.randn(3, 7, 4, generator=rng, dtype=torch.float64)
    directions = torch.nn.functional.normalize(torch.randn(4, 5, generator=rng, dtype=torch.float64), dim=0)
    distance = np.mean([(z[v, b, k] - z[:, b, k].mean()) ** 2 for v in range(3) for b in range(7) for k in range(4)])
    normality = sum(naive_sigreg(z[v].numpy(), directions.numpy(), 5, 3.0) for v in range(3)) / 3
    got = lejepa_loss(z, directions, 0.05, 5, 3.0)
    np.testing.assert_allclose(
        [float(v) for v in got], [0.95 * distance + 0.05 * normality, distance, normality], atol=1e-9
    )
    torch.testing.assert_close(lejepa_loss(z[[2, 0, 1]], directions, 0.05, 5, 3.0)[0], got[0])
