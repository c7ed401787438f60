"""LARS, layer-wise adaptive rates: each weight's step is a fixed share of its own length, for very large batches.

Source: You, Gitman, Ginsburg, "Large Batch Training of Convolutional Networks", arXiv 1708.03888 (2017).

The published codes of self-supervised methods differ in five points, which are arguments here. The defaults are those
of SimCLR, BYOL, Barlow Twins and VICReg: biases and the parameters of normalisations are neither adapted nor decayed,
and a matrix is divided by the length of gradient and decay together. The paper, and NVIDIA's LARC (SwAV, EMP-SSL),
divide by |gradient| + decay |w|; LARC adapts all parameters (SwAV) or matrices only (EMP-SSL), and may clip.

Deviation: the paper and SimCLR's code apply the learning rate before the momentum, this after it. The codes of BYOL,
Barlow Twins, VICReg, MoCo v3 and LARC do so too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

TRUST = 0.001  # the paper's eta: share of a weight's length that a step at learning rate 1 moves it


class LARS(torch.optim.Optimizer):
    """u = g + decay * w; u *= trust |w| / |u| where w is a matrix; m <- momentum * m + u; w <- w - lr * m.

    Args:
        params: param groups, which may set any of the other arguments.
        lr: learning rate.
        momentum: share of the last update that is kept, in [0, 1).
        weight_decay: share of a weight that is added to its gradient.
        trust: share of a weight's length that a step at learning rate 1 moves it.
        clip: u is multiplied by min(trust |w| / |u| / lr, 1), so that no step is longer than a plain one.
        adapt_vectors: parameters of one dimension (biases, normalisation) are adapted too.
        decay_vectors: they are decayed too.
        separate_norms: the divisor is |g| + decay |w| instead of |u|.
        nesterov: w <- w - lr * (u + momentum * m).

    Where a weight or its gradient is 0, the factor is 1.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        *,
        trust: float = TRUST,
        clip: bool = False,
        adapt_vectors: bool = False,
        decay_vectors: bool = False,
        separate_norms: bool = False,
        nesterov: bool = False,
    ) -> None:
        form = {"trust": trust, "clip": clip, "adapt_vectors": adapt_vectors, "decay_vectors": decay_vectors}
        form |= {"separate_norms": separate_norms, "nesterov": nesterov}
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, **form})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Take one step; parameters without a gradient stay. The host never waits for the device."""
        for group in self.param_groups:
            for w in group["params"]:
                if w.grad is None:
                    continue
                decay = group["weight_decay"] if w.ndim > 1 or group["decay_vectors"] else 0.0
                update = w.grad.add(w, alpha=decay) if decay else w.grad
                if w.ndim > 1 or group["adapt_vectors"]:
                    update = update * _factor(w, update, decay, group)
                state = self.state[w]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(w)
                momentum = state["momentum_buffer"].mul_(group["momentum"]).add_(update)
                ahead = update.add(momentum, alpha=group["momentum"]) if group["nesterov"] else momentum
                w.sub_(ahead, alpha=group["lr"])


def _factor(w: Tensor, update: Tensor, decay: float, group: dict[str, Any]) -> Tensor:
    """Return what the update of one weight is multiplied by, a scalar on the weight's device."""
    length = w.grad.norm() + decay * w.norm() if group["separate_norms"] else update.norm()
    factor = group["trust"] * w.norm() / length
    # The quotient is 0, infinite or NaN where a length is 0. `where` decides on the device; `if` would wait for it.
    factor = torch.where(factor.isfinite() & (factor > 0), factor, torch.ones_like(factor))
    return (factor / group["lr"]).clamp(max=1.0) if group["clip"] and group["lr"] > 0 else factor
