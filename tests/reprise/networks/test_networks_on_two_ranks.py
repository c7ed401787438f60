"""Networks of which two processes pass a part each: batch normalisation of every kind, and blocks computed twice."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from reprise.networks.memory.recompute import recomputed
from reprise.networks.ranks.sharing import across_ranks, common_statistics
from reprise.networks.small.small_resnet import BasicBlock
from reprise.runtime.world import ALONE, World
from tests.two_ranks import TwoRanks

IMAGES = 7  # four in one process, three in the other


def layers() -> dict[str, nn.Module]:
    from reprise.networks.torchvision_schemas import ensure_torchvision_imports

    ensure_torchvision_imports()
    from timm.layers import BatchNormAct2d

    flat = nn.Sequential(nn.Flatten(), nn.Linear(75, 6, bias=False), nn.BatchNorm1d(6, affine=False))
    cubes = nn.Conv3d(3, 6, (1, 3, 3), bias=False)
    deep = nn.Sequential(nn.Unflatten(2, (1, 5)), cubes, nn.BatchNorm3d(6), nn.Flatten())
    return {
        "plain": nn.Sequential(nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), nn.Flatten()),
        "with an activation": nn.Sequential(nn.Conv2d(3, 6, 3, bias=False), BatchNormAct2d(6), nn.Flatten()),
        "without weights": flat,
        "of volumes": deep,
        "without running statistics": nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), nn.Flatten()),
        "cumulative average": nn.Sequential(nn.BatchNorm2d(3, momentum=None), nn.Flatten()),
        "frozen": nn.Sequential(nn.BatchNorm2d(3), nn.Flatten()).eval(),
    }


def passed(network: nn.Module, world: World, half: bool = False) -> dict[str, Tensor]:
    """What a network makes of two views, and the gradients and buffers that a step leaves."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(2, IMAGES, 3, 5, 5, generator=rng) * 3 + 1
    own = x[:, world.own(IMAGES)].flatten(0, 1).contiguous(memory_format=torch.channels_last).requires_grad_()
    network.zero_grad()
    with common_statistics([network], world):
        with across_ranks([network], IMAGES, world), torch.autocast("cpu", torch.bfloat16, enabled=half):
            y = network(own)
        weight = torch.randn(y.shape, generator=rng)
        (y.float() * weight).square().sum().backward()
    parameters = list(network.parameters())
    world.average([p.grad for p in parameters if p.grad is not None])
    assert own.grad is not None
    rows = own.grad.unflatten(0, (2, -1)).transpose(0, 1).contiguous() / world.size
    found = {"output": y.detach().float(), "input": world.gather(rows, world.counts(IMAGES))}
    found |= {name: p.grad.clone() for name, p in network.named_parameters()}
    return found | {name: buffer.clone().float() for name, buffer in network.named_buffers()}


def differences(name: str, half: bool, world: World) -> dict[str, float]:
    torch.manual_seed(0)
    network = layers()[name]
    before = {key: value.clone() for key, value in network.state_dict().items()}
    shared = passed(network, world, half)
    network.load_state_dict(before)
    alone = passed(network, ALONE, half)
    assert shared.keys() == alone.keys()
    return {key: float((shared[key] - alone[key]).norm() / alone[key].norm().clamp_min(1e-6)) for key in alone}


@pytest.mark.parametrize("name", list(layers()))
def test_statistics_are_those_of_all_processes(name: str, two_ranks: TwoRanks) -> None:
    for found in two_ranks.call(differences, name, False):
        assert max(found.values()) < 1e-5, found


def test_half_precision_is_as_close_as_its_digits_allow(two_ranks: TwoRanks) -> None:
    for found in two_ranks.call(differences, "plain", True):
        assert max(found.values()) < 2e-2, found


def twice(world: World) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A step of two blocks as they are, and of blocks that are computed again in the backward pass."""
    found = []
    for again in (False, True):
        torch.manual_seed(0)
        blocks = [BasicBlock(3, 4, 1), BasicBlock(4, 4, 1)]
        with recomputed(blocks if again else []):
            found.append(passed(nn.Sequential(*blocks, nn.Flatten()), world))
    return found[0], found[1]


def test_blocks_may_be_computed_twice(two_ranks: TwoRanks) -> None:
    for plain, again in two_ranks.call(twice):
        assert all(torch.equal(again[name], value) for name, value in plain.items())


def drawn(world: World) -> tuple[Tensor, Tensor]:
    """What a network with dropout makes of equal images, and what is drawn after it."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5))
    images = world.own(IMAGES)
    with across_ranks([network], IMAGES, world):
        y = network(torch.ones(images.stop - images.start, 3, 5, 5))
    return y, torch.rand(4)


def test_networks_draw_in_each_process_and_methods_the_same_in_all(two_ranks: TwoRanks) -> None:
    (y, after), (same, also) = two_ranks.call(drawn)
    assert torch.equal(y, same)
    assert torch.equal(after, also)
    assert not torch.equal(y[:3], y[3:6])
