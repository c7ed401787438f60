"""Two processes take the steps of one: losses, gradients, figures and state of every method, in fp32."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from reprise.config.plug_ins.registry import load_class, names
from reprise.networks.memory.recompute import in_chunks
from reprise.runtime.device import Compute
from reprise.runtime.world import ALONE, World
from reprise.training.optimization.gradients import Gradients
from stages.pretrain.method import Batch, Method
from stages.pretrain.ranks.share import Share
from stages.pretrain.ranks.together import exchanging, shared_step
from tests.stages.pretrain.methods.conftest import build, random_batch, without_batch_statistics
from tests.two_ranks import TwoRanks

CHUNKABLE = [
    name
    for name in names("methods")
    if not (kind := load_class("methods", name, Method, "")).gradient_free and kind.chunkable
]
METHODS = [name for name in names("methods") if not load_class("methods", name, Method, "").gradient_free]
OPTIONS = {"gsimclr": {"mask_negatives": True}, "dcl": {"weighted": True}, "distill": {"relational": 1.0}}
SIZE, STEPS = 14, 4  # images that no number of micro-batches and ranks divides; queues and memories are full at the end
Taken = tuple[Tensor, dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]


def batch_of(method: Method, number: int, share: Share) -> Batch:
    """A batch of random views; those of this process's images, and everything else of all."""
    batch = random_batch(method, SIZE, seed=number, start=SIZE * number)
    own = share.positions(SIZE)
    if own is None:
        return replace(batch, world=share.world)
    masks = {name: [mask[own] for mask in views] for name, views in batch.masks.items()}
    return replace(batch, views=[view[own] for view in batch.views], masks=masks, world=share.world)


def taken(
    method: Method, optimizer: torch.optim.Optimizer, number: int, share: Share, chunk: int | None = None
) -> Taken:
    """Take a step, in chunks where they have a size: loss, gradients, figures and the state after it."""
    step, around, compute = shared_step(method, share.world), exchanging(method, share.world), Compute("cpu", "fp32", 1)
    gradients = Gradients(method, step, compute, micro_batches=share.micro_batches, world=share.world, around=around)
    torch.manual_seed(number)
    with in_chunks(method.embedding_networks(), chunk) if chunk else nullcontext():
        loss, figures = gradients(batch_of(method, number, share))
    found = {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}
    method.after_backward(number / STEPS)
    optimizer.step()
    method.after_step((number + 1) / STEPS)
    return loss, found, figures, {name: value.clone().float() for name, value in method.state_dict().items()}


def apart(name: str, micro_batches: int, chunk: int | None, world: World) -> dict[str, float]:
    """Take each step from the same state as one process and as one of several: the largest relative differences.

    Where there is a size of chunks, only the several processes pass in chunks, through a backbone without statistics.
    """
    method = build(name, images=2 * SIZE, steps=STEPS, **OPTIONS.get(name, {}))
    if chunk:
        without_batch_statistics(method)
    optimizer = torch.optim.SGD(method.parameters(), 0.05)
    worst = {"loss": 0.0, "gradients": 0.0, "figures": 0.0, "state": 0.0}
    for number in range(STEPS):
        before = {key: value.clone() for key, value in method.state_dict().items()}
        shared = taken(method, optimizer, number, Share(world, micro_batches), chunk)
        method.load_state_dict(before)
        alone = taken(method, optimizer, number, Share(ALONE, micro_batches))
        for kind, (a, b) in zip(worst, zip(alone, shared, strict=True), strict=True):
            worst[kind] = max(worst[kind], relative(a, b))
    return worst


def relative(expected: Tensor | dict[str, Tensor], found: Tensor | dict[str, Tensor]) -> float:
    """The length of the difference over the length of what is expected, all tensors together."""
    if isinstance(expected, Tensor):
        return float((found - expected).abs() / expected.abs().clamp_min(1.0))
    assert isinstance(found, dict)
    assert expected.keys() == found.keys()
    assert all(found[name].shape == value.shape for name, value in expected.items())
    length, distance = (
        torch.stack([value.norm() for value in values]).norm()
        for values in (list(expected.values()), [found[name] - value for name, value in expected.items()])
    )
    return float(distance / length.clamp_min(1e-12))


@pytest.mark.parametrize("name", METHODS)
def test_two_ranks_take_the_steps_of_one(name: str, two_ranks: TwoRanks) -> None:
    for worst in two_ranks.call(apart, name, 1, None):
        assert max(worst.values()) < 1e-5, worst


@pytest.mark.parametrize("name", ["simmim", "vicreg"])
def test_micro_batches_are_shared_out_one_by_one(name: str, two_ranks: TwoRanks) -> None:
    for worst in two_ranks.call(apart, name, 3, None):
        assert max(worst.values()) < 1e-5, worst


FAST_IN_CHUNKS = ("byol", "simclr", "swav")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FAST_IN_CHUNKS else pytest.mark.slow) for name in CHUNKABLE]
)
def test_ranks_pass_their_images_in_chunks(name: str, two_ranks: TwoRanks) -> None:
    for worst in two_ranks.call(apart, name, 1, 3):
        assert max(worst.values()) < 1e-5, worst


def statistics(images: int, chunk: int, world: World) -> tuple[Tensor, Tensor]:
    """Running statistics of a normalisation, and the gradient of its weights, after a step in chunks."""
    method = build("simclr")
    whole = random_batch(method, images)
    batch = replace(whole, views=[view[world.own(images)] for view in whole.views], world=world)
    step, around = shared_step(method, world), exchanging(method, world)
    with in_chunks(method.embedding_networks(), chunk):
        Gradients(method, step, Compute("cpu", "fp32", 1), world=world, around=around)(batch)
    assert method.backbone.norm.weight.grad is not None
    return method.backbone.norm.running_var, method.backbone.norm.weight.grad


@pytest.mark.parametrize(("images", "chunk"), [(15, 14), (3, 1)])  # shares of 7 and 8, of 1 and 2
def test_ranks_with_unequal_shares_take_equally_many_chunks(images: int, chunk: int, two_ranks: TwoRanks) -> None:
    (first, gradient), (second, other) = two_ranks.call(statistics, images, chunk)
    assert torch.equal(first, second)
    assert torch.equal(gradient, other)
    assert gradient.isfinite().all()
