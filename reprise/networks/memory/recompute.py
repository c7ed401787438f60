"""Passes through a network that keep less and compute twice, for trainings that do not fit into memory.

A forward pass keeps what each layer gives out until the backward pass has used it. A part that is recomputed keeps its
input only, and is computed again when the backward pass reaches it (activation checkpointing: Chen et al., "Training
Deep Nets with Sublinear Memory Cost", 2016). Parts may be the blocks of a network, or the images of a batch: then the
loss compares the vectors of all images, while the layers are kept for a few images at a time (gradient caching: Gao et
al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", RepL4NLP 2021).

Both repeat their random draws. The second pass changes no buffer, since the first has updated running statistics. With
blocks the gradients have the bits of the plain pass. With chunks of images they have its values as far as rounding
goes, unless batch normalisation, which then sees one chunk at a time, makes the network another function.

Shapes: x (n, C, S, S) -> (n, d), as of every backbone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from reprise.config.errors import TrainingError

_CONTAINERS = nn.Sequential | nn.ModuleList | nn.ModuleDict
_FEWEST_LAYERS = 2  # with weights: recomputing a single layer saves nothing, because its input is as large


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """List the blocks of a network: the smallest elements of its sequences that hold several layers with weights.

    A sequence is one of torch's containers, or a module whose parts are all of one class, as RegNet's stages are.
    """
    children = list(network.children())
    in_sequence = isinstance(network, _CONTAINERS) or len({type(child) for child in children}) == 1
    found = []
    for child in children:
        inner = blocks_of(child)
        found += inner or ([child] if in_sequence and _layers(child) >= _FEWEST_LAYERS else [])
    return found


@contextmanager
def recomputed(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Let each of these modules keep its input only, until the block ends."""
    modules = list(modules)
    with replaced({module: _twice(module) for module in modules}):
        yield


@contextmanager
def in_chunks(networks: Iterable[nn.Module], size: int) -> Iterator[set[nn.Module]]:
    """Let networks take at most `size` images at a time, until the block ends.

    Chunks of one call differ by at most one image. Where gradients are asked for, the layers of one chunk at a time are
    kept; where none are, each chunk is computed once.

    Args:
        networks: (n, C, S, S) -> (n, d); `n` may be more than the batch, since methods put views together.
        size: images, at least 1.

    Yields:
        The networks that were called since to get gradients; one that a method passes by is never in it.
    """
    called: set[nn.Module] = set()
    with replaced({network: Chunked(network, size, called) for network in networks}):
        yield called


class Chunked:
    """The forward pass of a network, in chunks.

    Args:
        network: (n, C, S, S) -> (n, d).
        size: images in a chunk, at most.
        called: gets the network when it is called to get gradients.
    """

    def __init__(self, network: nn.Module, size: int, called: set[nn.Module]) -> None:
        self.network, self.size, self.called, self.passed = network, size, called, _twice(network)

    def __call__(self, x: Tensor, shares: Sequence[int] = ()) -> Tensor:
        """Pass a batch: (n, C, S, S) -> (n, d).

        Args:
            x: images.
            shares: n of each of the processes that pass a batch together. They take equally many chunks, since layers
                may exchange what they compute of each; a process with a single image of a view, beside others with two,
                lets these take chunks of two where one was asked for.
        """
        if torch.is_grad_enabled():
            self.called.add(self.network)
        shares = shares or [len(x)]
        vectors = []
        for part in x.tensor_split(min(-(-max(shares) // self.size), *shares)):
            # Each chunk casts the weights to bf16 for itself, so that gradients are added up in float32.
            torch.clear_autocast_cache()
            vectors.append(self.passed(part))
        return torch.cat(vectors)


def has_batch_statistics(network: nn.Module) -> bool:
    """Tell whether what a network makes of an image in training depends on the other images."""
    return any(isinstance(module, _BatchNorm) and module.training for module in network.modules())


def _layers(module: nn.Module) -> int:
    """Count the layers with matrices of weights."""
    return sum(any(p.ndim > 1 for p in part.parameters(recurse=False)) for part in module.modules())


def _twice(module: nn.Module) -> Callable[..., Any]:
    """Return a module's forward pass, repeated by the backward pass; without gradients it is the plain one."""
    forward = module.forward

    def passed(*arguments: Any, **keywords: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*arguments, **keywords)
        versions = _versions(arguments)
        again = [list(x) if isinstance(x, list) else x for x in arguments]  # DenseNet goes on to extend its lists
        contexts = lambda: (nullcontext(), _buffers_kept(module))  # noqa: E731 - made anew for each pass
        result = checkpoint(forward, *again, use_reentrant=False, context_fn=contexts, **keywords)
        if _versions(arguments) != versions:
            raise TrainingError(
                "a part of the backbone changes its input in place, so it cannot be computed again",
                where="train.activation_checkpointing, train.chunk_size",
                found=type(module).__name__,
                fix="Leave them out for this backbone, and cut batches with train.accumulate.",
            )
        return result

    return passed


def _versions(arguments: Iterable[Any]) -> list[int]:
    """Count how often each tensor was changed in place."""
    listed = [x for value in arguments for x in (value if isinstance(value, list | tuple) else [value])]
    return [x._version for x in listed if isinstance(x, Tensor)]  # noqa: SLF001 - kept nowhere else


@contextmanager
def _buffers_kept(module: nn.Module) -> Iterator[None]:
    """Let a pass change copies of the buffers, which are dropped afterwards."""
    kept = [(part, name, buffer) for part in module.modules() for name, buffer in part.named_buffers(recurse=False)]
    for part, name, buffer in kept:
        setattr(part, name, buffer.clone())
    try:
        yield
    finally:
        for part, name, buffer in kept:
            setattr(part, name, buffer)


@contextmanager
def replaced(forwards: dict[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Give modules other forward passes until the block ends; state, parameters and hooks stay theirs."""
    before = {module: vars(module).get("forward") for module in forwards}
    for module, forward in forwards.items():
        module.forward = forward
    try:
        yield
    finally:
        for module, earlier in before.items():
            if earlier is None:
                del module.forward  # that of the class shows again
            else:
                module.forward = earlier
