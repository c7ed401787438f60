"""Centring: a running mean of the teacher's outputs, which is subtracted before its softmax (DINO, equation 4).

Shape legend: b outputs of this rank, K width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reprise.runtime.world import ALONE, World


class Centre(nn.Module):
    """centre <- momentum * centre + (1 - momentum) * mean of the batch, starting at 0.

    It keeps any one output from winning everywhere; sharpening (a low temperature) keeps all from being equal.
    """

    value: Tensor

    def __init__(self, width: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("value", torch.zeros(width))

    @torch.no_grad()
    def update(self, outputs: Tensor, world: World = ALONE) -> None:
        """Move towards the mean of the (b, K) outputs of all ranks."""
        self.value.lerp_(world.mean(outputs.detach().to(self.value.dtype)), 1.0 - self.momentum)
