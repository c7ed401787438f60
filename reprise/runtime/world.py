"""The processes that train one network together, and what they exchange. One process alone is the identity.

Each process (rank) holds a part of every global batch. Objectives that compare the images of a batch take a `World`,
gather what the other ranks have, and return a loss whose mean over the ranks is the loss of one process on the whole
batch. Training in several processes averages gradients over ranks, so gradients agree too: `gather` and `reduce` sum
what all ranks send back to a value.

This is the only file that imports torch.distributed, and it does so only where there are several processes.

Shape legend: b rows of this rank, B rows of all ranks, in the order of the ranks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class World:
    """This process among those that train together.

    Attributes:
        rank: of this process, from 0.
        size: processes. With more than one, torch's default process group must have been joined.
    """

    rank: int = 0
    size: int = 1

    def gather(self, x: Tensor) -> Tensor:
        """Return the rows of all ranks: (b, ...) -> (B, ...); gradients flow back to the rank that a row is from.

        Ranks may hold different numbers of rows, of one shape.
        """
        return x if self.size == 1 else _Gather.apply(x, self.rank, self._counts(x))

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

    def _counts(self, x: Tensor) -> list[int]:
        """Return how many rows each rank holds."""
        import torch.distributed as dist

        counts = [torch.zeros(1, dtype=torch.int64, device=x.device) for _ in range(self.size)]
        dist.all_gather(counts, torch.tensor([len(x)], device=x.device))
        return torch.cat(counts).tolist()


ALONE = World()


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
