"""Networks of which every process passes its own images, and gets the vectors of the whole batch.

Heads, losses, queues, memories and clusterings cost little beside the backbone. So each process computes them of the
whole batch, just as one process does, and only the networks that turn images into vectors share the images out:

    views of this rank (V b, C, S, S) -> network -> (V b, d) -> gathered with gradients -> (V B, d)

A method is written for one process, and runs in several. Batch normalisation inside these networks sees the whole batch
(batch_norm.py), and what follows them sees it anyway. Random draws of a network itself (dropout, drop path) come from a
generator of each rank, so they are not those of one process; those of the method are the same on all.

Shape legend: b images of this rank, B of all ranks, V views of an image, d width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from reprise.config.errors import TrainingError
from reprise.networks.memory.recompute import Chunked, replaced
from reprise.networks.ranks.batch_norm import synchronised
from reprise.runtime.seeds import mix
from reprise.runtime.world import World


@contextmanager
def across_ranks(networks: Iterable[nn.Module], images: int, world: World, by_image: bool = False) -> Iterator[None]:
    """Let networks take the views of this rank and return the vectors of all ranks, until the block ends.

    Args:
        networks: (n, C, S, S) -> (n, d), n being V b.
        images: B, of the global batch.
        world: the processes that hold it together.
        by_image: the views of an image lie together in n; else all first views come before all second ones.
    """
    if world.size == 1:
        yield
        return
    calls = count()
    with replaced({network: _shared(network, images, world, by_image, calls) for network in networks}):
        yield


@contextmanager
def common_statistics(networks: Iterable[nn.Module], world: World) -> Iterator[None]:
    """Let batch normalisation inside networks see the images of all ranks, until the block ends.

    The backward pass belongs into the block as well, since it may compute parts of a network again.
    """
    if world.size == 1:
        yield
        return
    layers = {part for network in networks for part in network.modules() if isinstance(part, _BatchNorm)}
    with replaced({layer: synchronised(layer, world) for layer in layers}):
        yield


def _shared(
    network: nn.Module, images: int, world: World, by_image: bool, calls: Iterator[int]
) -> Callable[..., Tensor]:
    forward, counts = network.forward, world.counts(images)
    own = counts[world.rank]

    def passed(x: Tensor) -> Tensor:
        views, rest = divmod(len(x), own)
        if rest:
            raise TrainingError(
                "the method passes something else than its views through a network, so processes cannot share it out",
                where="train.processes",
                found=f"{len(x)} images in a call, {own} in this process's part of the batch",
                fix="Set processes to 1 for this run.",
            )
        shares = [views * count for count in counts]
        with _own_draws(world, next(calls)):
            vectors = forward(x, shares) if isinstance(forward, Chunked) else forward(x)
        if views == 1 or by_image:
            return world.gather(vectors, shares)
        together = world.gather(vectors.unflatten(0, (views, own)).transpose(0, 1), counts)
        return together.transpose(0, 1).flatten(0, 1)

    return passed


@contextmanager
def _own_draws(world: World, call: int) -> Iterator[None]:
    """Draw from a generator of this rank, and leave the common one where it was on all ranks."""
    on_gpu = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(on_gpu):
        torch.manual_seed(mix(torch.initial_seed(), "network", call, world.rank))
        yield
