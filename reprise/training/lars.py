"""LARS, layer-wise adaptive rates: each weight's step is a fixed share of its own length, for very large batches.

Source: You, Gitman, Ginsburg, "Large Batch Training of Convolutional Networks", arXiv 1708.03888 (2017). Biases and the
parameters of normalisations are left out of the adaptation, as SimCLR, BYOL and Barlow Twins do.

Deviations: the paper divides by |gradient| + decay |w|; this divides by the length of their sum, and applies the
learning rate after the momentum. Both are as in the codes of Barlow Twins, VICReg and MoCo v3.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

TRUST = 0.001  # the paper's eta: share of a weight's length that a step at learning rate 1 moves it


class LARS(torch.optim.Optimizer):
    """u = g + decay * w; u *= TRUST |w| / |u| where w is a matrix; m <- momentum * m + u; w <- w - lr * m.

    Args:
        params: param groups, which may set `lr` and `weight_decay`. Parameters of one dimension (biases, normalisation)
            are neither adapted nor decayed. Where a weight or its u is 0, the factor is 1.
        lr: learning rate.
        momentum: share of the last update that is kept, in [0, 1).
        weight_decay: share of a weight that is added to its gradient.
    """

    def __init__(
        self, params: Iterable[dict[str, Any]], lr: float, momentum: float = 0.9, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Take one step; parameters without a gradient stay. The host never waits for the device."""
        for group in self.param_groups:
            for w in group["params"]:
                if w.grad is None:
                    continue
                update = w.grad
                if w.ndim > 1:
                    update = update.add(w, alpha=group["weight_decay"])
                    ratio = TRUST * w.norm() / update.norm()
                    # The ratio is infinite or NaN where u is 0. `where` decides on the device; `if` would wait for it.
                    update = update * torch.where(ratio.isfinite() & (ratio > 0), ratio, torch.ones_like(ratio))
                state = self.state[w]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(w)
                state["momentum_buffer"].mul_(group["momentum"]).add_(update)
                w.sub_(state["momentum_buffer"], alpha=group["lr"])
