"""Gradients of convolutions over small maps in bfloat16 on a CPU: those of float32, whatever lies in memory."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from reprise.runtime.device import Compute
from reprise.training.optimization.small_maps import is_small, right_gradients

BF16, FP32 = Compute("cpu", "bf16", 1), Compute("cpu", "fp32", 1)
MAPS = [
    *((2, (side,) * 2, kernel, stride) for side, kernel, stride in itertools.product((1, 2, 3, 4), (3, 7), (1, 2))),
    *((2, (side, 1), 3, 2) for side in (2, 4)),
    *((3, (side,) * 3, kernel, stride) for side, kernel, stride in itertools.product((1, 2, 3, 4), (3, 5), (1, 2))),
    *((3, (2, side, side), 3, 1) for side in (4, 6)),
]


def fill_memory(numbers: int) -> None:
    """Leave NaN in the memory that is handed out next."""
    held = [torch.full((size,), float("nan")) for size in (numbers, numbers, 2 * numbers, numbers // 2 + 1)]
    del held


def gradient(convolution: nn.Module, x: torch.Tensor, compute: Compute) -> torch.Tensor:
    convolution.zero_grad(set_to_none=True)
    with right_gradients(convolution, compute):
        fill_memory(convolution.weight.numel())
        with compute.autocast():
            y = convolution(x)
        y.float().sum().backward()
    return convolution.weight.grad.clone()


@pytest.mark.parametrize(("dimensions", "sides", "kernel", "stride"), MAPS)
def test_gradients_are_those_of_float32(dimensions: int, sides: tuple[int, ...], kernel: int, stride: int) -> None:
    torch.manual_seed(0)
    kind = nn.Conv2d if dimensions == 2 else nn.Conv3d
    convolution = kind(16, 16, kernel, stride, padding=kernel // 2, bias=False)
    x = torch.randn(8, 16, *sides)
    expected = gradient(convolution, x, FP32)
    for _ in range(3):
        found = gradient(convolution, x, BF16)
        assert torch.isfinite(found).all()
        assert (found - expected).abs().max() <= 0.03 * expected.abs().max()


def test_gradients_of_transposed_convolutions_are_those_of_float32() -> None:
    torch.manual_seed(0)
    convolution = nn.ConvTranspose2d(32, 16, 3, stride=2, padding=1, bias=False)
    x = torch.randn(8, 32, 1, 1)
    expected = gradient(convolution, x, FP32)
    for _ in range(3):
        assert (gradient(convolution, x, BF16) - expected).abs().max() <= 0.03 * expected.abs().max()


def test_only_small_maps_leave_bfloat16_and_nothing_stays_behind() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(8, 8, 1))
    seen: list[torch.dtype] = []
    network[0].register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    with right_gradients(network, BF16), BF16.autocast():
        assert network(torch.randn(2, 3, 8, 8)).dtype == torch.bfloat16
        assert network(torch.randn(2, 3, 1, 1)).dtype == torch.bfloat16  # the layer behind is in bfloat16 again
        with pytest.raises(RuntimeError):
            network(torch.randn(2, 4, 1, 1))  # a call that fails leaves autocast as it was
        assert torch.is_autocast_enabled("cpu")
    assert seen[:2] == [torch.bfloat16, torch.float32]
    assert len(network[0]._forward_pre_hooks) == 0
    assert len(network[0]._forward_hooks) == 1
    assert set(vars(network[0])) == set(vars(nn.Conv2d(3, 8, 3)))


def test_what_is_small() -> None:
    assert is_small((1, 1), (3, 3), (2, 2))
    assert not is_small((1, 1), (3, 3), (1, 1))
    assert not is_small((4, 4), (7, 7), (2, 2))
    assert is_small((8, 2, 8), (3, 3, 3), (1, 1, 1))
    assert not is_small((3, 3, 3), (3, 3, 3), (1, 1, 1))
