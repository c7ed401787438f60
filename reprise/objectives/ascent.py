"""Projected gradient ascent within a small cube around each image: the change that raises a loss most.

Source: Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def ascend(loss: Callable[[Tensor], Tensor], x: Tensor, start: Tensor, epsilon: float, steps: int) -> Tensor | None:
    """Change images so that a loss becomes large; each step adds the sign of its slope, 2.5 epsilon / steps long.

    Args:
        loss: images in 0 to 1 -> scalar. Nothing else takes part: gradients of weights stay as they are.
        x: (n, C, H, W) images in 0 to 1.
        start: where the ascent begins, within epsilon of `x`.
        epsilon: the most by which a channel may change.
        steps: of the ascent.

    Returns:
        (n, C, H, W) images in 0 to 1 within epsilon of `x`; None where the loss has no slope in the images.
    """
    changed, length = start, 2.5 * epsilon / steps
    for _ in range(steps):
        changed = changed.detach().requires_grad_(True)
        height = loss(changed)
        if not height.requires_grad:
            return None
        (slope,) = torch.autograd.grad(height, changed)
        with torch.no_grad():
            changed = changed + length * slope.sign()
            changed = torch.minimum(torch.maximum(changed, x - epsilon), x + epsilon)
            changed = changed.clamp(0, 1)
    return changed.detach()
