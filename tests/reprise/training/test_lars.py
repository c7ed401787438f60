"""LARS against the formula in float64, what it leaves out, and what it does in a run."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from reprise.networks.state import arrays_of, load_optimizer
from reprise.training.lars import LARS, TRUST
from reprise.training.optimizers import build_optimizer
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
