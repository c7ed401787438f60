"""Passes that are computed twice: the gradients, statistics and draws of the plain pass, at less kept."""

from __future__ import annotations

import copy
from contextlib import ExitStack

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reprise.config.errors import TrainingError
from reprise.networks.backbone import build_backbone
from reprise.networks.memory.recompute import blocks_of, in_chunks, recomputed


class Drawing(nn.Module):
    """A sequence of two blocks, with dropout and without batch normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(nn.Sequential(nn.Linear(6, 6), nn.GELU(), nn.Linear(6, 6)) for _ in range(2)))
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.blocks(x))


def state_after(network: nn.Module, x: Tensor, blocks: bool = False, chunk: int | None = None, bf16: bool = False):
    """Gradients and buffers after one backward pass of a loss that compares all rows with each other."""
    network = copy.deepcopy(network).train()
    torch.manual_seed(3)
    with ExitStack() as stack:
        stack.enter_context(torch.autocast("cpu", torch.bfloat16, enabled=bf16))
        if blocks:
            stack.enter_context(recomputed(blocks_of(network)))
        if chunk:
            stack.enter_context(in_chunks([network], chunk))
        z = F.normalize(network(x).float(), dim=1)
        (5 * z @ z.T).logsumexp(dim=1).mean().backward()
    assert not any("forward" in vars(module) for module in network.modules())  # the networks are as they were
    return [*(p.grad for p in network.parameters()), *network.buffers()]


def equal(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True) if a is not None)


class Listing(nn.Module):
    """As in DenseNet, a block that takes a list; as in RegNet, a stage of blocks that is no container."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.first, self.second = (nn.ModuleDict({"layer": ListBlock(n)}) for n in (4, 8))

    def forward(self, x: Tensor) -> Tensor:
        outputs = [self.stem(x)]
        for part in (self.first, self.second):
            outputs.append(part["layer"](outputs))
        return outputs[-1].mean(dim=(2, 3))


class ListBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.first, self.second = nn.BatchNorm2d(channels), nn.Conv2d(channels, 5, 1), nn.Conv2d(5, 4, 1)

    def forward(self, inputs: list[Tensor]) -> Tensor:
        return self.second(self.first(self.norm(torch.cat(inputs, dim=1))))


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("name", ["resnet_tiny", "vit_mini", "listing"])
def test_blocks_computed_twice_give_the_same_bits(name: str, bf16: bool) -> None:
    """The bits are those of gradients and of running statistics, which move once."""
    torch.manual_seed(0)
    network = Listing() if name == "listing" else build_backbone(name, 3, 16)
    x = torch.randn(4, 3, 16, 16)
    assert len(blocks_of(network)) >= 2
    assert equal(state_after(network, x, bf16=bf16), state_after(network, x, blocks=True, bf16=bf16))


def test_blocks_are_found_in_sequences_of_every_form() -> None:
    """timm's RegNet names the blocks of a stage b1, b2, ... in a module that is no container."""
    stage = nn.Module()
    stage.b1, stage.b2 = ListBlock(4), ListBlock(4)
    network = nn.Module()
    network.stem, network.s1 = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU()), stage
    network.blocks = nn.Sequential(nn.Sequential(ListBlock(4)), nn.Sequential(ListBlock(4), nn.Identity()))
    want = [stage.b1, stage.b2, network.blocks[0][0], network.blocks[1][0]]
    assert blocks_of(network) == want  # the smallest ones, and no single layer


@pytest.mark.parametrize("blocks", [False, True])
@pytest.mark.parametrize("chunk", [1, 3, 7, 50])
def test_chunks_give_the_gradient_of_the_whole_batch(chunk: int, blocks: bool) -> None:
    torch.manual_seed(0)
    network, x = build_backbone("vit_mini", 3, 16).double(), torch.randn(7, 3, 16, 16).double()
    whole, chunked = state_after(network, x), state_after(network, x, blocks, chunk)
    largest = max(float((a - b).norm() / a.norm()) for a, b in zip(whole, chunked, strict=True) if a is not None)
    assert largest < 1e-10
    apart = [state_after(network, part) for part in x.tensor_split(2)]  # two losses, which compare fewer images
    halves = [(a + b) / 2 for a, b in zip(*apart, strict=True) if a is not None]
    assert max(float((a - b).norm() / a.norm()) for a, b in zip(whole, halves, strict=False) if a.ndim > 1) > 0.1


def test_chunks_see_batch_statistics_of_their_own_and_count_them_once() -> None:
    torch.manual_seed(0)
    network, x = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12)), torch.randn(6, 3, 2, 2)
    *_, mean, _, count = state_after(network, x, chunk=3)
    want = 0.9 * 0.1 * x.flatten(1)[:3].mean(0) + 0.1 * x.flatten(1)[3:].mean(0)
    torch.testing.assert_close(mean, want)
    assert int(count) == 2


def test_draws_are_repeated() -> None:
    """One chunk draws what the whole batch draws, and the second pass draws it again."""
    torch.manual_seed(0)
    network, x = Drawing(), torch.randn(5, 6)
    assert equal(state_after(network, x), state_after(network, x, blocks=True))
    assert equal(state_after(network, x), state_after(network, x, chunk=5))


def test_layers_are_kept_for_one_chunk_at_a_time() -> None:
    sizes, network = [], Drawing()
    network.blocks[0].register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    with in_chunks([network], 2) as called:
        assert called == set()
        network(torch.randn(5, 6)).sum().backward()
    assert called == {network}
    assert sizes == [2, 2, 1, 1, 2, 2]  # forward, and again from the last chunk on
    with in_chunks([network], 2), torch.no_grad():
        network(torch.randn(5, 6))
    assert sizes[6:] == [2, 2, 1]  # nothing is kept without gradients, so nothing is computed twice


def test_the_gradients_of_chunks_are_added_up_in_float32() -> None:
    """In bf16, a sum of 512 gradients of 1 would stop at 256."""
    network, x = nn.Sequential(nn.Linear(1, 1, bias=False)), torch.ones(512, 1)
    with torch.autocast("cpu", torch.bfloat16), in_chunks([network], 1):
        network(x).float().sum().backward()
    assert float(network[0].weight.grad) == 512


def test_a_block_that_changes_its_input_is_refused() -> None:
    block = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(6, 6), nn.Linear(6, 6))
    network = nn.Sequential(nn.Linear(6, 6), block)
    with pytest.raises(TrainingError, match=r"changes its input in place.*Found: Sequential"), recomputed([block]):
        network(torch.randn(2, 6))
