"""Gradient reaches what it should and nothing else; a step leaves half precision finite; state loads strictly."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from reprise.config.plug_ins.registry import load_class, names
from reprise.networks.backbone import build_backbone
from stages.pretrain.method import Batch, Method
from tests.stages.pretrain.methods.conftest import SMALL, build, random_batch

LEARNING = [name for name in names("methods") if not load_class("methods", name, Method, "").gradient_free]
TEACHERS = [name for name in LEARNING if hasattr(build(name), "teacher")]


def stepped(method: Method, steps: int = 1, **options) -> torch.Tensor:
    """The loss of the last of some steps with SGD, so that queues and memories are not empty."""
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.01)
    for step in range(steps):
        torch.manual_seed(step)
        loss, _ = method.step(random_batch(method, seed=step, start=8 * step, **options))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        method.after_step((step + 1) / method.context.steps)
    return loss.detach()


@pytest.mark.parametrize("name", LEARNING)
def test_gradient_reaches_every_parameter_that_learns(name):
    """Biases before a batch normalisation have a gradient of zero; everything else moves."""
    method = build(name, images=16)
    stepped(method, steps=5)
    still = [
        n
        for n, p in method.named_parameters()
        if p.requires_grad and (p.grad is None or not p.grad.abs().sum() > 1e-12) and not n.endswith("bias")
    ]
    assert still == []
    frozen = [n for n, p in method.named_parameters() if not p.requires_grad]
    assert all(dict(method.named_parameters())[n].grad is None for n in frozen)
    assert {n.split(".")[0] for n in frozen} <= {
        "teacher",
        "source",
        "backbone",
    }  # of a backbone: fixed positions, patches


@pytest.mark.parametrize("name", TEACHERS)
def test_a_teacher_moves_by_its_momentum_alone(name):
    for momentum, moves in ((1.0, False), (0.0, True)):
        method = build(name, images=16, momentum=momentum, momentum_end=momentum)
        before = {n: p.clone() for n, p in method.teacher.named_parameters()}
        stepped(method, steps=3)
        for n, p in method.teacher.named_parameters():
            part, rest = n.split(".", 1)
            own = dict(getattr(method, part).named_parameters())[rest]
            assert torch.equal(p, own if moves else before[n]), n


@pytest.mark.parametrize("name", TEACHERS)
def test_the_network_that_is_kept(name):
    for keep in ("student", "teacher"):
        method = build(name, images=16, keep=keep)
        assert method.weights == keep
        assert (method.trained_backbone() is method.backbone) == (keep == "student")
        heads = method.heads()
        if "projector" in heads:
            assert (heads["projector"] is method.projector) == (keep == "student")


@pytest.mark.parametrize("name", LEARNING)
def test_bf16_steps_are_finite_and_their_loss_is_float32(name):
    method = build(name, images=16)
    for step in range(4):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss, logs = method.step(random_batch(method, seed=step, start=8 * step))
        assert loss.dtype == torch.float32
        assert torch.isfinite(loss)
        assert logs["features"].ndim == 2
        loss.backward()
        method.after_step((step + 1) / 8)


@pytest.mark.parametrize("name", LEARNING)
def test_equal_images_give_a_finite_loss_and_gradient(name):
    method = build(name, images=16)
    for step in range(3):
        batch = random_batch(method, start=8 * step)
        flat = [torch.ones_like(v) * 0.5 for v in batch.views]
        loss, _ = method.step(replace(batch, views=flat))
        method.zero_grad()
        loss.backward()
        method.after_step((step + 1) / 8)
        assert torch.isfinite(loss)
        assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", LEARNING)
def test_state_loads_strictly_and_goes_on_alike(name):
    """What a step depends on is in the state dict: a fresh method that loads it takes the same next step."""
    first, second = build(name, images=16), build(name, images=16)
    stepped(first, steps=4)
    second.load_state_dict({k: v.clone() for k, v in first.state_dict().items()}, strict=True)
    losses = []
    for method in (first, second):
        torch.manual_seed(9)
        loss, _ = method.step(random_batch(method, seed=9))
        losses.append(float(loss.detach()))
    assert losses[0] == losses[1]


@pytest.mark.parametrize("name", ["barlow_twins", "byol", "moco_v3", "nnclr", "simsiam", "vicreg"])
def test_each_view_has_batch_statistics_of_its_own(name):
    """As in the papers' codes: what the first view gives does not depend on the second."""
    method = build(name, images=16)
    batch = random_batch(method)
    other = Batch([batch.views[0], 3.0 * batch.views[1] + 1.0], batch.rows, batch.fields)
    alone = method.backbone(batch.views[0]).detach()
    for found in (batch, other):
        torch.testing.assert_close(method.step(found)[1]["features"].detach(), alone)


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_the_floor_of_transformers_has_their_shape(pool):
    """`msn` reads the token, `simmim` the mean of the patches: the same network as theirs, untrained."""
    kind = load_class("methods", "random", Method, "")
    floor = build_backbone(*_shaped(kind.own_backbone(kind.Params(transformer=pool))))
    trained = load_class("methods", {"token": "msn", "avg": "simmim"}[pool], Method, "")
    theirs = build_backbone(*_shaped(trained.own_backbone(trained.Params())))
    assert {k: v.shape for k, v in floor.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}
    assert floor.pool == theirs.pool == pool
    assert kind.own_backbone(kind.Params()) is None


def _shaped(own: tuple[str, dict] | None) -> tuple[str, int, int, str, dict]:
    assert own is not None
    return own[0], 3, 16, "small", own[1]


def test_every_new_method_has_small_heads_here():
    assert set(SMALL) <= set(LEARNING)
