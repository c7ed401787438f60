"""Teacher, queue, Sinkhorn, centre, coding rate, precision, multi-crop: the parts that several methods use."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from reprise.objectives.centring import Centre
from reprise.objectives.coding_rate import coding_rate
from reprise.objectives.info_nce import in_batch_info_nce
from reprise.objectives.sinkhorn import sinkhorn
from reprise.training.optimization.annealing import anneal
from reprise.training.optimization.optimizers import build_optimizer
from reprise.training.params import TrainParams
from stages.pretrain.parts.multi_crop import MultiCropParams, embed_crops, multi_crop_plan
from stages.pretrain.parts.queue import Queue
from stages.pretrain.parts.teacher import follow, frozen_copy
from stages.pretrain.views.batched import batched_view
from stages.pretrain.views.per_image import PerImageViews
from tests.stages.pretrain.conftest import TINY
from tests.stages.pretrain.methods.conftest import SETTINGS, TinyBackbone, build


def test_the_momentum_schedule_is_exact_at_its_ends():
    assert anneal(0.0, 0.996, 1.0) == 0.996
    assert anneal(1.0, 0.996, 1.0) == 1.0
    assert anneal(0.5, 0.9, 1.0) == pytest.approx(0.95)
    for k in range(11):
        assert anneal(k / 10, 0.9, 1.0) == pytest.approx(1 - (1 - 0.9) * (math.cos(math.pi * k / 10) + 1) / 2)
    assert anneal(0.3, 0.99, 0.99) == 0.99


def test_a_teacher_follows_and_gets_no_gradient():
    student = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    teacher = frozen_copy(student)
    before = [p.clone() for p in teacher.parameters()]
    with torch.no_grad():
        for p in student.parameters():
            p.add_(torch.randn_like(p))
    student(torch.randn(8, 3))  # moves the running statistics, which are not followed
    for momentum in (1.0, 0.75, 0.0):
        follow(teacher, student, momentum)
        for was, slow, fast in zip(before, teacher.parameters(), student.parameters(), strict=True):
            if momentum == 1.0:
                assert torch.equal(slow, was)
            elif momentum == 0.0:
                assert torch.equal(slow, fast)
            else:
                torch.testing.assert_close(slow, 0.75 * was + 0.25 * fast)
    assert not any(p.requires_grad for p in teacher.parameters())
    assert torch.equal(teacher[1].running_mean, torch.zeros(4))


@pytest.mark.parametrize("sizes", [[3, 3, 3], [5, 1, 4, 2, 2], [9], [2, 30, 3]])
def test_a_queue_keeps_the_newest(sizes):
    queue, pushed = Queue(7, 2), []
    for size in sizes:
        vectors = torch.randn(size, 2)
        queue.push(vectors)
        pushed += vectors.tolist()
        want = pushed[-7:]
        assert len(queue) == len(want)
        assert queue.full == (len(pushed) >= 7)
        np.testing.assert_allclose(sorted(queue.stored().tolist()), sorted(want))


def test_a_queue_travels_in_the_state():
    first, second = Queue(5, 3), Queue(5, 3)
    for seed in range(4):
        first.push(torch.randn(3, 3, generator=torch.Generator().manual_seed(seed), requires_grad=False))
    second.load_state_dict(first.state_dict(), strict=True)
    for queue in (first, second):
        queue.push(torch.ones(2, 3))
    assert torch.equal(first.entries, second.entries)
    assert not first.stored().requires_grad


def naive_sinkhorn(scores: np.ndarray, epsilon: float, iterations: int) -> np.ndarray:
    """SwAV's appendix, in the linear domain: prototypes get equal mass, then samples."""
    q = np.exp(scores / epsilon).T
    q /= q.sum()
    k, b = q.shape
    for _ in range(iterations):
        q = q / q.sum(axis=1, keepdims=True) / k
        q = q / q.sum(axis=0, keepdims=True) / b
    return (q * b).T


@pytest.mark.parametrize("iterations", [1, 3, 50])
def test_sinkhorn(iterations):
    scores = np.random.default_rng(0).uniform(-1, 1, (10, 4))
    got = sinkhorn(torch.from_numpy(scores), 0.3, iterations)
    np.testing.assert_allclose(got.numpy(), naive_sinkhorn(scores, 0.3, iterations), atol=1e-9)
    np.testing.assert_allclose(got.sum(dim=1).numpy(), 1, atol=1e-9)
    if iterations == 50:
        np.testing.assert_allclose(got.sum(dim=0).numpy(), 10 / 4, atol=1e-6)
    order = np.random.default_rng(1).permutation(10)
    np.testing.assert_allclose(
        sinkhorn(torch.from_numpy(scores[order] + 7), 0.3, iterations).numpy(), got.numpy()[order], atol=1e-9
    )


def test_sinkhorn_edges():
    """Sharp scores overflow an exponential; equal ones give equal shares, also with more prototypes than samples."""
    sharp = sinkhorn(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]), 0.001, 3)
    torch.testing.assert_close(sharp, torch.eye(2))
    torch.testing.assert_close(sinkhorn(torch.ones(3, 8), 0.05, 3), torch.full((3, 8), 1 / 8))
    assert float(sinkhorn(torch.randn(1, 5), 0.05, 3).sum()) == pytest.approx(1)


def test_the_centre_is_a_running_mean():
    centre, want = Centre(3, 0.9), np.zeros(3)
    for seed in range(5):
        outputs = torch.randn(4, 3, generator=torch.Generator().manual_seed(seed))
        centre.update(outputs)
        want = 0.9 * want + 0.1 * outputs.double().numpy().mean(axis=0)
    np.testing.assert_allclose(centre.value.numpy(), want, atol=1e-6)
    assert "value" in centre.state_dict()


def test_coding_rate_has_the_right_sign_and_value(rng):
    z = torch.randn(9, 4, generator=rng, dtype=torch.float64)
    sign, logdet = np.linalg.slogdet(np.eye(4) + 4 / (9 * 0.2) * (z.numpy().T @ z.numpy()))
    assert float(coding_rate(z, 0.2)) == pytest.approx(sign * logdet / 2, abs=1e-9)
    wide = z.T  # more dimensions than rows: the other Gram matrix
    _, logdet = np.linalg.slogdet(np.eye(9) + 9 / (4 * 0.2) * (wide.numpy().T @ wide.numpy()))
    assert float(coding_rate(wide, 0.2)) == pytest.approx(logdet / 2, abs=1e-9)
    collapsed = torch.tensor([[1.0, 0, 0, 0]]).repeat(8, 1)
    spread = torch.eye(4).repeat(2, 1)
    assert float(coding_rate(collapsed, 0.2)) == pytest.approx(0.5 * math.log(1 + 4 / 0.2), abs=1e-5)
    assert float(coding_rate(spread, 0.2)) == pytest.approx(4 / 2 * math.log(1 + 1 / 0.2), abs=1e-5)  # the maximum
    rotation, _ = torch.linalg.qr(torch.randn(4, 4, generator=rng, dtype=torch.float64))
    torch.testing.assert_close(coding_rate(z @ rotation, 0.2), coding_rate(z, 0.2))


def test_losses_leave_autocast():
    first, second = torch.randn(2, 16, 8).unbind()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = in_batch_info_nce(first.bfloat16(), second.bfloat16(), 0.1)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, in_batch_info_nce(first.bfloat16().float(), second.bfloat16().float(), 0.1))
    assert in_batch_info_nce(first.double(), second.double(), 0.1).dtype == torch.float64


@pytest.mark.parametrize(("side", "small"), [(16, 8), (32, 12), (224, 96), (4, 4)])
def test_the_plan_of_crops(side, small):
    plan = multi_crop_plan(replace(SETTINGS, size=side), MultiCropParams(small_crops=3))
    assert [s.size for s in plan] == [side, side, small, small, small]
    assert [(s.cut.params.scale_min, s.cut.params.scale_max) for s in plan[1:3]] == [(0.14, 1.0), (0.05, 0.14)]
    assert len(multi_crop_plan(SETTINGS, MultiCropParams(small_crops=0))) == 2
    sixteen = multi_crop_plan(replace(SETTINGS, size=32), MultiCropParams(), multiple=16)
    assert sixteen[-1].size == 16  # a transformer's patches fill it


def test_small_crops_cover_what_is_stated_in_both_paths():
    """A ramp tells how much of the image a crop covers."""
    ramp = np.tile(np.arange(64, dtype=np.uint8)[None, None, :, None], (400, 64, 1, 3))
    small = SETTINGS.cropped(0.05, 0.14)
    ours = batched_view(torch.from_numpy(ramp), small, torch.Generator().manual_seed(0))
    theirs = PerImageViews(lambda i: ramp[i], small, threads=1)(range(400), 0)
    for views in (ours, theirs):
        width = (views[:, 0, 4].amax(1) - views[:, 0, 4].amin(1)) * 255  # 7/8 of the crop's width, at most
        assert 0.05 < float(((width + 7) / 64).max()) ** 2 < 0.14 * 4 / 3 + 0.1
        assert float(width.max()) < 30


def test_crops_go_through_in_their_order():
    backbone = TinyBackbone().eval()
    views = [torch.randn(2, 3, s, s) for s in (8, 8, 4, 4, 4)]
    torch.testing.assert_close(embed_crops(backbone, views), torch.cat([backbone(v) for v in views]))


def test_the_recipe_of_the_paper_is_asked_for_and_own_values_win():
    kind = type(build("simsiam").params)
    assert kind().applied_to(TINY) == TINY
    paper = kind(recipe="paper", weight_decay=0.5).applied_to(TINY)
    assert (paper.learning_rate, paper.weight_decay, paper.optimizer) == (0.05, 0.5, "sgd")


def test_groups_of_their_own_are_taken_out_of_the_others():
    method = build("simsiam")
    optimizer = build_optimizer(method, TrainParams(**TINY.model_dump()), method.parameter_groups())
    counted = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert len(counted) == len(set(counted)) == len([p for p in method.parameters() if p.requires_grad])
    predictor = {id(p) for p in method.predictor.parameters()}
    assert {id(p) for g in optimizer.param_groups if g.get("constant_rate") for p in g["params"]} == predictor
    assert all(g["weight_decay"] in (0.0, TINY.weight_decay) for g in optimizer.param_groups)
