"""Batch normalisation over the images of all processes that train together.

torch's synchronised layer refuses tensors on the CPU. On a GPU its function is used here; on a CPU the same is made of
the kernels of its plain layer, which are several times faster than elementary operations: statistics of this rank's
part, one exchange, and the normalisation with statistics that are given; backward the sums, one exchange, and

    dx = w / s (dy - mean(dy) - y mean(dy y)),   y = (x - m) / s, means over all ranks.

Shape legend: x (n, C, ...) of this rank, N numbers a channel of all ranks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from reprise.runtime.world import World


def synchronised(layer: nn.Module, world: World) -> Callable[..., Tensor]:
    """Return the forward pass of a layer of batch normalisation with the statistics of all ranks.

    Whatever else a layer does in its forward pass stays as it is, such as the activation that timm puts there.

    Args:
        layer: of a class of torch's, or one made of it.
        world: the processes that hold the batch together.
    """
    forward = layer.forward

    def shared(*arguments: Any, **keywords: Any) -> Tensor:
        with _SharedStatistics(world):
            return forward(*arguments, **keywords)

    return shared


class _SharedStatistics(TorchFunctionMode):
    """Takes the place of `F.batch_norm` where that would compute statistics."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    def __torch_function__(
        self, function: Any, kinds: Any, arguments: tuple[Any, ...] = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        keywords = keywords or {}
        if function is F.batch_norm:
            return self._batch_norm(*arguments, **keywords)
        return function(*arguments, **keywords)

    def _batch_norm(
        self,
        input: Tensor,  # noqa: A002 - torch's name for it
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        running = (running_mean, running_var)
        if not training:
            return F.batch_norm(input, *running, weight, bias, False, momentum, eps)
        if input.is_cuda:
            from torch.nn.modules._functions import SyncBatchNorm

            group, size = self.world.group, self.world.size
            return SyncBatchNorm.apply(input, weight, bias, *running, eps, momentum, group, size)
        return _Normalised.apply(input, weight, bias, *running, eps, momentum, self.world)


class _Normalised(torch.autograd.Function):
    """Normalisation on a CPU."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        eps: float,
        momentum: float,
        world: World,
    ) -> Tensor:
        channels = x.shape[1]
        unused = x.new_zeros(channels, dtype=torch.float32)  # its format is that of the statistics
        own_mean, own_var = torch.batch_norm_update_stats(x, unused, unused.clone(), 0.0)
        count = own_mean.new_tensor([x.numel() // channels])
        every = world.gather(torch.cat([own_mean, own_var, count])[None], [1] * world.size).double()
        means, variances, counts = every.split([channels, channels, 1], dim=1)
        total = counts.sum()
        mean = (counts * means).sum(dim=0) / total
        var = (counts * (variances + (means - mean).square())).sum(dim=0) / total
        if running_mean is not None and running_var is not None:
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((var * total / (total - 1)).to(running_var.dtype), momentum)
        mean, var = mean.to(own_mean.dtype), var.to(own_var.dtype)
        ctx.save_for_backward(x, weight, mean, var)
        ctx.eps, ctx.world, ctx.total, ctx.biased = eps, world, float(total), bias is not None
        return torch.native_batch_norm(x, weight, bias, mean, var, False, 0.0, eps)[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        x, weight, mean, var = ctx.saved_tensors
        dy = gradients[0]
        backward, only_sums = torch.ops.aten.native_batch_norm_backward, [False, True, True]
        _, products, sums = backward(dy, x, weight, mean, var, None, None, False, ctx.eps, only_sums)
        means = ctx.world.reduce(torch.stack([products, sums]).to(mean.dtype)) / ctx.total
        scale = (var + ctx.eps).rsqrt() if weight is None else weight * (var + ctx.eps).rsqrt()
        through_statistics = torch.native_batch_norm(
            x, -scale * means[0], -scale * means[1], mean, var, False, 0.0, ctx.eps
        )[0]
        # In place and of one type: torch makes copies of all operands where types differ, at ten times the cost.
        scale = scale.to(dy.dtype).view(-1, *[1] * (x.ndim - 2))
        dx = through_statistics.addcmul_(dy, scale)
        own_weight = None if weight is None else products
        return dx, own_weight, sums if ctx.biased else None, *[None] * 5
