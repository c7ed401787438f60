"""Networks whose weights do not fit into one process: each process keeps a part of every weight (FSDP2).

A block of a network gathers its weights from all processes before it computes, and gives them back afterwards; the
backward pass gathers them once more. So a process holds its part of the weights, of their gradients and of the
optimiser's state, and beside them the whole weights of one block at a time. What a network computes is the same.

Checkpoints and results hold whole weights: `gathered` turns the state of a training into such a state, and `laid_out`
turns it back. So they do not depend on sharding, nor on the number of processes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from reprise.config.errors import TrainingError
from reprise.networks.memory.recompute import blocks_of
from reprise.runtime.world import World, is_part, own_part, parted_as, whole

_MIXED = "mixed torch.Tensor and DTensor"  # what torch says of a part that meets a whole tensor


@contextmanager
def sharded(parent: nn.Module, networks: Iterable[nn.Module], world: World, device: str) -> Iterator[None]:
    """Part the weights of networks over the processes, until the block ends.

    Afterwards the first process has whole networks in their places, on the CPU, and the others have networks without
    weights: only the first one writes. After an error all of them are left as they are.

    Args:
        parent: the networks are parts of it.
        networks: with the same weights in every process, on the CPU or on `device`.
        world: the processes that train them together.
        device: `cpu` or `cuda`.

    Raises:
        TrainingError: a network has weights that cannot be parted.
    """
    emptied = {}
    for network in networks:
        emptied[network] = _without_weights(network)
        try:
            # FSDP2 takes weights in their plain layout only.
            world.shard([*blocks_of(network), network.to(memory_format=torch.contiguous_format)], device)
        except (NotImplementedError, ValueError) as error:
            raise TrainingError(
                "the weights of the backbone cannot be parted among processes",
                where="train.shard_weights",
                found=f"{type(network).__name__}: {error}",
                fix="Set shard_weights to false for this run, or choose another backbone.",
            ) from error
    yield
    for network, empty in emptied.items():
        state = gathered(network.state_dict(), keep=world.first)
        if state is not None:
            empty.load_state_dict(state, assign=True)
        _replace(parent, network, empty.train(network.training))


def gathered(state: Any, keep: bool = True) -> Any:
    """Gather the parted tensors of a tree of dictionaries and lists, one after the other; all processes must ask.

    Args:
        state: as of `state_dict`.
        keep: whether this process wants the result. Parted tensors come into the memory of the host.

    Returns:
        The tree with whole tensors; None where it is not kept.
    """

    def gather(value: Any) -> Any:
        if isinstance(value, Tensor):
            if not is_part(value):
                return value
            found = whole(value.detach())
            return found.cpu() if keep else None
        if isinstance(value, Mapping):
            return {name: gather(part) for name, part in value.items()}
        return [gather(part) for part in value] if isinstance(value, list | tuple) else value

    found = gather(state)
    return found if keep else None


def laid_out(state: Mapping[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """Return a whole state of a module as its weights lie: parts where they are parted."""
    places = module.state_dict()
    return {name: parted_as(value, places[name]) if name in places else value for name, value in state.items()}


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float, world: World) -> None:
    """Scale the gradients of parameters down, in place, so that all together are at most `limit` long.

    It is torch's `clip_grad_norm_`, which does not take parts beside whole gradients.
    """
    parameters = [p for p in parameters if p.grad is not None]
    parts = [own_part(p.grad) for p in parameters if p.grad is not None and is_part(p.grad)]
    if not parts:
        torch.nn.utils.clip_grad_norm_(parameters, limit)
        return
    rest = [p.grad for p in parameters if p.grad is not None and not is_part(p.grad)]
    squares = world.reduce(_length(parts).square())
    total = (squares + _length(rest).square()).sqrt() if rest else squares.sqrt()
    factor = (limit / (total + 1e-6)).clamp(max=1.0)
    for gradient in [*parts, *rest]:
        gradient.mul_(factor)


@contextmanager
def refusing_parts(method: str) -> Iterator[None]:
    """Refuse, in a sentence, to compute with a part of a weight as if it were the whole.

    Raises:
        TrainingError: something else than a call of a network met its weights.
    """
    try:
        yield
    except RuntimeError as error:
        if _MIXED not in str(error):
            raise
        raise TrainingError(
            "the method uses weights of its backbone without calling the whole backbone, so they cannot be parted",
            where=f"train.shard_weights, {method}",
            found=str(error).split(",")[0],
            fix="Set shard_weights to false for this run.",
        ) from error


def _length(tensors: list[Tensor]) -> Tensor:
    return torch.stack([x.norm() for x in tensors]).norm()


def _without_weights(network: nn.Module) -> nn.Module:
    """Copy a network with its buffers, and with places for its weights that take no memory."""
    places = {id(p): nn.Parameter(torch.empty_like(p, device="meta"), p.requires_grad) for p in network.parameters()}
    return copy.deepcopy(network, places)


def _replace(parent: nn.Module, part: nn.Module, other: nn.Module) -> None:
    """Put another module in the place of a part, wherever it is used."""
    for module in parent.modules():
        for name, child in module.named_children():
            if child is part:
                setattr(module, name, other)
