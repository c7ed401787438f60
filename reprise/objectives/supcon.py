"""The supervised contrastive loss: every image and view of one label is a positive (Khosla et al. 2020).

Shape legend: B images in two views, d width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from reprise.objectives.precision import full_precision


@full_precision
def supcon_loss(first: Tensor, second: Tensor, labels: Tensor, temperature: float, mean: str = "out") -> Tensor:
    """Average the paper's equation 2 (`out`) or 3 (`in`) over the 2B anchors.

    Args:
        first, second: (B, d) projections, not normalised. labels: (B,) int64, -1 for none.

    Returns:
        A scalar; 0 for one image, log(2B - 1) where all images are equal.
    """
    count = len(first)
    z = F.normalize(torch.cat([first, second]), dim=1)
    itself = torch.eye(2 * count, dtype=torch.bool, device=z.device)
    both = torch.cat([labels, labels])
    other_view = itself.roll(count, dims=1)
    positive = (((both[:, None] == both[None]) & (both[:, None] >= 0)) | other_view) & ~itself
    similarity = (z @ z.T / temperature).masked_fill(itself, float("-inf"))
    log_probability = similarity - torch.logsumexp(similarity, dim=1, keepdim=True)
    number = positive.sum(dim=1)
    if mean == "in":
        inside = torch.logsumexp(log_probability.masked_fill(~positive, float("-inf")), dim=1)
        return (number.to(z.dtype).log() - inside).mean()
    return -(log_probability.masked_fill(~positive, 0.0).sum(dim=1) / number).mean()
