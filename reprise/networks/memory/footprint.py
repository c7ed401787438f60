"""What a network takes of memory, found without any: it is laid out and applied on torch's meta device."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from reprise.networks.axes import blank
from reprise.networks.memory.recompute import blocks_of


@dataclass(frozen=True)
class Footprint:
    """The size of a network.

    Attributes:
        weights: numbers in its parameters and buffers.
        kept: numbers that its layers give out for one image, which the backward pass needs again.
        kept_by_blocks: the same where blocks are computed twice (reprise/networks/memory/recompute.py): what lies
            outside of them, what each gives out, and the largest of them.
        features: width of what comes out.
    """

    weights: int
    kept: int
    kept_by_blocks: int
    features: int


def footprint(network: nn.Module, channels: int, size: int, device: str = "meta") -> Footprint:
    """Apply a network to two images, and add up what its layers give out.

    Args:
        network: (B, C, S, S) -> (B, d).
        channels: C.
        size: S, in pixels.
        device: where the network lies.

    Raises:
        RuntimeError: the images are too small for the network, or it does what the device cannot.
    """
    blocks = blocks_of(network)
    block_of = {part: block for block in blocks for part in block.modules()}
    inside: Counter[nn.Module | None] = Counter()  # by block, None for what lies outside of all
    between = 0

    def count(module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal between
        numel = output.numel() if isinstance(output, Tensor) else 0
        if next(module.children(), None) is None:
            inside[block_of.get(module)] += numel
        if block_of.get(module) is module:
            between += numel

    hooks = [module.register_forward_hook(count) for module in network.modules()]
    try:
        features = network(blank(network, 2, channels, size, device))
    finally:
        for hook in hooks:
            hook.remove()
    largest = max((inside[block] for block in blocks), default=0)
    by_blocks = inside[None] + between + largest
    return Footprint(numbers(network), inside.total() // 2, by_blocks // 2, int(features.shape[-1]))


def numbers(module: nn.Module) -> int:
    """Count the numbers in all parameters and buffers of a module."""
    return sum(tensor.numel() for tensor in [*module.parameters(), *module.buffers()])
