"""The processes that train one network together, and what they exchange. One process alone is the identity.

Each process (rank) holds a part of every global batch. A loss may be that of the whole batch on every rank, computed
from gathered rows, or that of this rank's rows. Either way its mean over the ranks is the loss of one process on the
whole batch. Gradients are averaged over the ranks, so they agree too: `gather` and `reduce` sum what all ranks send
back to a value.

This is the only file that imports torch.distributed, and it does so only where there are several processes.

Shape legend: b rows of this rank, B rows of all ranks, in the order of the ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Value = TypeVar("Value")
# A process that waits this long gives up. The first one may watch, judge and write in the meantime.
PATIENCE = timedelta(minutes=30)


@dataclass(frozen=True)
class World:
    """This process among those that train together.

    Attributes:
        rank: of this process, from 0.
        size: processes. With more than one, torch's default process group must have been joined.
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and tells."""
        return self.rank == 0

    def counts(self, rows: int) -> list[int]:
        """Return how many of the rows of a global batch each rank takes; they differ by at most one."""
        bounds = [rows * rank // self.size for rank in range(self.size + 1)]
        return [end - begin for begin, end in pairwise(bounds)]

    def own(self, rows: int) -> slice:
        """Return which of the rows of a global batch this rank takes."""
        return slice(rows * self.rank // self.size, rows * (self.rank + 1) // self.size)

    def gather(self, x: Tensor, counts: Sequence[int] | None = None) -> Tensor:
        """Return the rows of all ranks: (b, ...) -> (B, ...); gradients flow back to the rank that a row is from.

        Ranks may hold different numbers of rows, of one shape.

        Args:
            x: rows of this rank.
            counts: rows of each rank, where they are known; else the ranks tell each other.
        """
        if self.size == 1:
            return x
        return _Gather.apply(x, self.rank, self._counts(x) if counts is None else list(counts))

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors, which have the same shapes on all ranks, by their means over the ranks, in place."""
        if self.size == 1:
            return
        for kind in sorted({x.dtype for x in tensors}, key=str):
            chosen = [x for x in tensors if x.dtype == kind]
            total = _summed(torch.cat([x.reshape(-1) for x in chosen])).div_(self.size)
            for x, part in zip(chosen, total.split([x.numel() for x in chosen]), strict=True):
                x.copy_(part.view(x.shape))

    def agreed(self, make: Callable[[], Value]) -> Value:
        """Make a value on the first rank, and return it on all of them; it must be picklable."""
        if self.size == 1:
            return make()
        import torch.distributed as dist

        held = [make() if self.first else None]
        dist.broadcast_object_list(held, src=0, device=torch.device("cpu"))
        return held[0]  # type: ignore[return-value]

    def reduce(self, x: Tensor) -> Tensor:
        """Return the sum over all ranks of a tensor that has one shape everywhere, with gradients."""
        return x if self.size == 1 else _Sum.apply(x)

    def mean(self, x: Tensor) -> Tensor:
        """Return the mean over the rows of all ranks: (b, ...) -> (...)."""
        if self.size == 1:
            return x.mean(dim=0)
        return self.reduce(x.sum(dim=0)) / sum(self._counts(x))

    def place(self, x: Tensor) -> tuple[int, int]:
        """Return the position of this rank's first row among all rows, and how many rows there are: of (b, ...)."""
        if self.size == 1:
            return 0, len(x)
        counts = self._counts(x)
        return sum(counts[: self.rank]), sum(counts)

    def weight(self, count: int, total: int) -> float:
        """Return what to multiply a mean over this rank's rows with, so that the mean over ranks is that over all rows.

        It is 1 where all ranks hold equally many.

        Args:
            count: b, rows of this rank.
            total: B, rows of all ranks.
        """
        return count * self.size / total

    def shard(self, modules: Sequence[nn.Module], device: str) -> None:
        """Keep a part of each weight on each rank, in place, and gather the weights of a module while it computes.

        Afterwards gradients and whatever an optimiser keeps of a weight are parts as well; gradients come averaged over
        the ranks. Only calls of the modules gather their weights, and every rank must make the same calls. With one
        process nothing is changed.

        Source: torch's FSDP2; Zhao et al., "PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel", 2023.

        Args:
            modules: of one network, the inner ones first; each gathers the weights that no earlier one holds.
            device: `cpu` or `cuda`, to which the weights move.

        Raises:
            NotImplementedError, ValueError: FSDP2 cannot take one of the weights, such as a scalar.
        """
        if self.size == 1:
            return
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(device, (self.size,))
        for module in modules:
            # Also the outermost module gives its weights back after a pass: a teacher has no backward pass that would.
            fully_shard(module, mesh=mesh, reshard_after_forward=True)
            module.set_force_sum_reduction_for_comms(True)  # gloo has no mean

    def _counts(self, x: Tensor) -> list[int]:
        """Return how many rows each rank holds."""
        import torch.distributed as dist

        counts = [torch.zeros(1, dtype=torch.int64, device=x.device) for _ in range(self.size)]
        dist.all_gather(counts, torch.tensor([len(x)], device=x.device))
        return torch.cat(counts).tolist()

    @property
    def group(self) -> Any:
        """Torch's process group, for its own layers that talk to other ranks."""
        import torch.distributed as dist

        return dist.group.WORLD


ALONE = World()


class RankLostError(RuntimeError):
    """Another process of the training has ended, cannot be reached, or has not answered for `PATIENCE`."""


@contextmanager
def naming_losses() -> Iterator[None]:
    """Raise what torch says of a process that is gone as one class.

    Layers of torch exchange values too (FSDP2, batch normalisation), so the block holds all that the processes do
    together. The store and nccl have classes of their own; gloo raises a plain RuntimeError that names its source file.

    Raises:
        RankLostError: with the words of torch.
    """
    try:
        yield
    except RuntimeError as error:
        import torch.distributed as dist

        if isinstance(error, dist.DistError) or "gloo/transport/" in str(error):
            raise RankLostError(str(error)) from error
        raise


def join(rank: int, size: int, device: str, store: Path | None = None) -> World:
    """Meet the other processes, and return the world of all of them.

    Args:
        rank: of this process.
        size: processes.
        device: `cpu` (gloo) or `cuda` (nccl, and gloo for what lies on the host).
        store: a file that all of them share, and that no others have used; None takes the address that the variables
            MASTER_ADDR and MASTER_PORT name, as torchrun sets them.
    """
    if size == 1:
        return ALONE
    import torch.distributed as dist

    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    address = "env://" if store is None else f"file://{store.absolute()}"
    dist.init_process_group(backend, init_method=address, rank=rank, world_size=size, timeout=PATIENCE)
    return World(rank, size)


def leave() -> None:
    """Part from the other processes, where there are any."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def is_part(x: Tensor) -> bool:
    """Tell whether a tensor is the part of this rank of one that all ranks hold together (`World.shard`)."""
    return hasattr(x, "full_tensor")  # as DTensor has, whose import takes a second


def whole(x: Tensor) -> Tensor:
    """Return a tensor with the parts of all ranks; one that is whole already comes back itself. All ranks must ask."""
    return x.full_tensor() if is_part(x) else x


def own_part(x: Tensor) -> Tensor:
    """Return the numbers of a tensor that lie on this rank; they share its memory."""
    return x.to_local() if is_part(x) else x


def parted_as(value: Tensor, place: Tensor) -> Tensor:
    """Return of a whole tensor, which all ranks have, what belongs beside `place`: a part where that is one."""
    if not is_part(place):
        return value
    from torch.distributed.tensor import distribute_tensor

    mesh, placements = place.device_mesh, place.placements
    return distribute_tensor(value.to(place.device), mesh, placements, src_data_rank=None)


class _Gather(torch.autograd.Function):
    """All rows of all ranks. torch's own all_gather returns tensors without gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rank: int, counts: list[int]) -> Tensor:
        import torch.distributed as dist

        ctx.rank, ctx.counts = rank, counts
        padded = x.new_zeros((max(counts), *x.shape[1:]))  # all_gather takes tensors of one shape
        padded[: len(x)] = x
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        import torch.distributed as dist

        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)  # the losses of all ranks depend on this rank's rows
        first = sum(ctx.counts[: ctx.rank])
        return total[first : first + ctx.counts[ctx.rank]], None, None


class _Sum(torch.autograd.Function):
    """The sum over ranks, whose gradient is the sum over the ranks' gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _summed(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _summed(gradients[0])


def _summed(x: Tensor) -> Tensor:
    import torch.distributed as dist

    total = x.clone(memory_format=torch.contiguous_format)  # all_reduce works in place
    dist.all_reduce(total)
    return total
