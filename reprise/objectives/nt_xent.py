"""NT-Xent, the normalised temperature-scaled cross entropy of SimCLR (Chen et al. 2020, equation 1).

For 2B projections z of B images in two views, l2-normalised, with similarity s(i, j) = z_i . z_j / temperature:

    loss = mean over i of  -s(i, p(i)) + log sum over k != i of exp s(i, k),

p(i) being the other view of the same image. This is the paper's mean over 2B terms; Google's release returns the
sum of the two directional means, twice this value. Computed in float32 whatever the precision around it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def nt_xent(
    first: Tensor,
    second: Tensor,
    temperature: float,
    clusters: Tensor | None = None,
    confidences: Tensor | None = None,
) -> Tensor:
    """Contrastive loss of two views.

    Args:
        first, second: (B, d) projections, row i of both from image i; not normalised.
        temperature: > 0.
        clusters: (B,) int64; images of one cluster (other than -1) are left out of each other's negatives.
        confidences: (B,) float32 in [0, 1], with clusters: then they are left out only as far as both are sure, which
            is to say that the negative counts 1 - c_i c_k times. 1 everywhere leaves them out, 0 everywhere keeps them.

    Returns:
        A scalar. With one image and no negatives it is 0.
    """
    count = len(first)
    with torch.autocast(first.device.type, enabled=False):  # a bf16 product would blur similarities divided by 0.1
        z = F.normalize(torch.cat([first, second]).float(), dim=1)
        similarity = z @ z.T / temperature
    itself = torch.eye(2 * count, dtype=torch.bool, device=z.device)
    left_out = itself
    partner = torch.arange(2 * count, device=z.device).roll(count)
    if clusters is not None:
        both = torch.cat([clusters, clusters])
        same = (both[:, None] == both[None, :]) & (both[:, None] >= 0)
        same[torch.arange(2 * count, device=z.device), partner] = False  # the positive stays
        if confidences is None:
            left_out = itself | same
        else:
            sure = torch.cat([confidences, confidences]).float()
            weight = torch.log1p(-sure[:, None] * sure[None, :])  # -inf where both are certain: the negative is gone
            similarity = similarity + weight.masked_fill(~same, 0.0)
    return F.cross_entropy(similarity.masked_fill(left_out, float("-inf")), partner)
