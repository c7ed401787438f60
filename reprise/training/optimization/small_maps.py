"""Convolutions over small maps, kept out of a fault of bfloat16 on processors.

Where a kernel reaches beyond a small map on all of its places, some weights meet nothing but padding, so that their
gradient is 0. For bfloat16 on a CPU, torch 2.13 (oneDNN) leaves these numbers as it found them in memory: gradients of
any size or NaN, another result in every run, at times a crash. Such layers are therefore computed in float32, which is
right. It concerns the last layers of a network on images that are small for it, and most layers on small volumes.

Measured on an AMD EPYC (Zen 4) with garbage in the memory that is handed out: of maps with sides of 1 to 8 and kernels
of 2 to 7 in two dimensions those with a side of 1 and a stride above 1, in three dimensions those with a side that is
smaller than the kernel's. Transposed convolutions are treated alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from reprise.runtime.device import Compute

_OFF = "_autocast_is_off"
_KINDS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@contextmanager
def right_gradients(model: nn.Module, compute: Compute) -> Iterator[None]:
    """Compute convolutions over small maps in float32 within the block; only where `compute` is bf16 on a CPU.

    Args:
        model: whose modules are looked after; those that are added within the block are not.
        compute: device and precision.
    """
    concerned = compute.device == "cpu" and compute.precision == "bf16"
    handles = []
    for module in model.modules() if concerned else ():
        if isinstance(module, _KINDS) and max(module.kernel_size) > 1:
            handles.append(module.register_forward_pre_hook(_enter))
            handles.append(module.register_forward_hook(_leave, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def is_small(sides: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    """Tell whether a convolution over a map of these sides meets the fault."""
    if len(sides) == 3:
        return any(side < reach for side, reach in zip(sides, kernel, strict=True))
    return min(sides) == 1 and max(stride) > 1


def _enter(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
    assert isinstance(module, _KINDS)
    x = inputs[0]
    small = is_small(tuple(x.shape[2:]), module.kernel_size, module.stride)
    if not small or not torch.is_autocast_enabled("cpu"):
        return None
    torch.set_autocast_enabled("cpu", False)
    object.__setattr__(module, _OFF, True)
    return (x.float(), *inputs[1:])


def _leave(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
    if getattr(module, _OFF, False):
        object.__delattr__(module, _OFF)
        torch.set_autocast_enabled("cpu", True)
