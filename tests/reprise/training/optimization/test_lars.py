"""LARS against the formula in float64, what it leaves out, and what it does in a run."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from reprise.config.plug_ins.registry import load_class
from reprise.networks.state import arrays_of, load_optimizer
from reprise.training.optimization.lars import LARS, TRUST
from reprise.training.optimization.optimizers import build_optimizer
from stages.pretrain.method import Method
from tests.stages.pretrain.conftest import TINY


def gradients(shape: tuple[int, ...]) -> list[np.ndarray]:
    return list(np.random.default_rng(0).normal(size=(4, *shape)))


def stepped(shape: tuple[int, ...], decay: float, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Start and end of one parameter after four steps with lr 0.3 and momentum 0.9."""
    start = np.random.default_rng(1).normal(size=shape)
    w = nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = LARS([{"params": [w], "weight_decay": decay}], lr=0.3, momentum=0.9)
    for g in gradients(shape):
        w.grad = torch.from_numpy(scale * g)
        optimizer.step()
    return start, w.detach().numpy()


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_a_matrix_moves_by_a_share_of_its_length(decay):
    w, got = stepped((3, 4), decay)
    buffer = np.zeros_like(w)
    for g in gradients((3, 4)):
        u = g + decay * w
        u = u * TRUST * np.sqrt((w**2).sum()) / np.sqrt((u**2).sum())
        buffer = 0.9 * buffer + u
        w = w - 0.3 * buffer
    np.testing.assert_allclose(got, w, atol=1e-12)


def test_the_length_of_a_gradient_does_not_matter_to_a_matrix():
    np.testing.assert_allclose(stepped((3, 4), 0.0)[1], stepped((3, 4), 0.0, scale=1e4)[1], atol=1e-12)


def test_vectors_take_plain_steps_without_decay():
    w, got = stepped((5,), 0.1)
    buffer = np.zeros_like(w)
    for g in gradients((5,)):
        buffer = 0.9 * buffer + g
        w = w - 0.3 * buffer
    np.testing.assert_allclose(got, w, atol=1e-12)


def test_nothing_is_divided_by_zero():
    """A weight of zeros takes a plain step, a gradient of zeros none, a missing gradient leaves its weight alone."""
    zero, still, untouched = (nn.Parameter(torch.full((2, 2), v)) for v in (0.0, 1.0, 2.0))
    optimizer = LARS([{"params": [zero, still, untouched]}], lr=0.5)
    zero.grad, still.grad = torch.ones(2, 2), torch.zeros(2, 2)
    optimizer.step()
    for w, value in ((zero, -0.5), (still, 1.0), (untouched, 2.0)):
        torch.testing.assert_close(w.detach(), torch.full((2, 2), value))


def test_state_travels():
    def step(w: nn.Parameter, optimizer: LARS, seed: int) -> None:
        w.grad = torch.randn(3, 3, generator=torch.Generator().manual_seed(seed))
        optimizer.step()

    first, second = nn.Parameter(torch.ones(3, 3)), nn.Parameter(torch.ones(3, 3))
    one, two = (LARS([{"params": [w]}], lr=0.5) for w in (first, second))
    step(first, one, 0)
    second.data.copy_(first.data)
    load_optimizer(two, arrays_of(one.state_dict()))
    step(first, one, 1)
    step(second, two, 1)
    assert torch.equal(first, second)


def test_a_run_asks_for_it_by_name():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimizer = build_optimizer(model, TINY.model_copy(update={"optimizer": "lars", "weight_decay": 0.5}))
    assert isinstance(optimizer, LARS)
    assert [(len(g["params"]), g["weight_decay"], g["momentum"]) for g in optimizer.param_groups] == [
        (1, 0.5, TINY.momentum),
        (3, 0.0, TINY.momentum),
    ]


def stepped_as(shape: tuple[int, ...], decay: float, lr: float, **form) -> np.ndarray:
    w = nn.Parameter(torch.from_numpy(np.random.default_rng(1).normal(size=shape)))
    optimizer = LARS([{"params": [w], "weight_decay": decay}], lr=lr, momentum=0.9, **form)
    for g in gradients(shape):
        w.grad = torch.from_numpy(g.copy())
        optimizer.step()
    return w.detach().numpy()


def larc(shape: tuple[int, ...], decay: float, lr: float, trust: float, clip: bool, nesterov: bool) -> np.ndarray:
    """Restate LARC around torch's SGD: the gradient is replaced, and SGD knows of no decay."""
    w = nn.Parameter(torch.from_numpy(np.random.default_rng(1).normal(size=shape)))
    sgd = torch.optim.SGD([w], lr=lr, momentum=0.9, nesterov=nesterov)
    for g in gradients(shape):
        values = w.detach().numpy()
        rate = trust * np.sqrt((values**2).sum()) / (np.sqrt((g**2).sum()) + decay * np.sqrt((values**2).sum()))
        if clip:
            rate = min(rate / lr, 1.0)
        w.grad = torch.from_numpy(rate * (g + decay * values))
        sgd.step()
    return w.detach().numpy()


@pytest.mark.parametrize("shape", [(3, 4), (5,), (2, 3, 3, 3)])
@pytest.mark.parametrize(("lr", "clip"), [(0.3, False), (0.3, True), (1e-4, True)])
@pytest.mark.parametrize("nesterov", [False, True])
def test_larc_is_sgd_on_an_adapted_gradient(shape, lr, clip, nesterov):
    """With lr 0.3 the adapted rate is the smaller one, with 0.0001 the clipping holds; on matrices and on vectors."""
    form = {"trust": 0.005, "clip": clip, "separate_norms": True, "nesterov": nesterov}
    found = stepped_as(shape, 0.1, lr, adapt_vectors=True, decay_vectors=True, **form)
    np.testing.assert_allclose(found, larc(shape, 0.1, lr, 0.005, clip, nesterov), atol=1e-12)


def test_vectors_decay_without_being_adapted_where_asked_for():
    found = stepped_as((5,), 0.1, 0.3, decay_vectors=True)
    w, buffer = np.random.default_rng(1).normal(size=5), np.zeros(5)
    for g in gradients((5,)):
        buffer = 0.9 * buffer + g + 0.1 * w
        w = w - 0.3 * buffer
    np.testing.assert_allclose(found, w, atol=1e-12)


def test_the_first_step_of_emp_ssl_is_that_of_its_authors():
    """Trust 0.005 with clipping at a rate of 0.3 and Nesterov's momentum: 81 times what LARS alone would do."""
    w, g = np.random.default_rng(1).normal(size=(3, 4)), gradients((3, 4))[0]
    factor = min(0.005 * np.linalg.norm(w) / (np.linalg.norm(g) + 1e-4 * np.linalg.norm(w)) / 0.3, 1.0)
    want = 0.3 * 1.9 * factor * (g + 1e-4 * w)
    parameter = nn.Parameter(torch.from_numpy(w.copy()))
    layer = nn.Linear(4, 3, bias=False, dtype=torch.float64)
    layer.weight = parameter
    params = load_class("methods", "emp_ssl", Method, "").Params(recipe="paper")
    train = params.applied_to(TINY.model_copy(update={"batch_size": 100}))
    optimizer = build_optimizer(layer, train)
    parameter.grad = torch.from_numpy(g.copy())
    optimizer.step()
    np.testing.assert_allclose(w - parameter.detach().numpy(), want, atol=1e-15)
