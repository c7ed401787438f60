"""NT-Xent, the normalised temperature-scaled cross entropy of SimCLR (Chen et al. 2020, equation 1).

For 2B projections z of B images in two views, l2-normalised, with similarity s(i, j) = z_i . z_j / temperature:

    loss = mean over i of  -s(i, p(i)) + log sum over k != i of exp s(i, k),

p(i) being the other view of the same image. This is the paper's mean over 2B terms; Google's release returns the
sum of the two directional means, twice this value. Computed in float32 whatever the precision around it.

Shape legend: b images of this rank, B of all ranks, d width; N = 2B projections, of which a = 2b are anchors here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from reprise.runtime.world import ALONE, World


def nt_xent(
    first: Tensor,
    second: Tensor,
    temperature: float,
    clusters: Tensor | None = None,
    confidences: Tensor | None = None,
    world: World = ALONE,
) -> Tensor:
    """Compute the contrastive loss of two views; the anchors are this rank's images, the negatives those of all ranks.

    Args:
        first, second: (b, d) projections, row i of both from image i; not normalised.
        temperature: above 0.
        clusters: (b,) int64; images of one cluster (other than -1) are left out of each other's negatives.
        confidences: (b,) float32 in [0, 1], with clusters: they are then left out only as far as both are sure. The
            negative counts 1 - c_i c_k times: 1 everywhere leaves them out, 0 everywhere keeps them.
        world: the processes that hold the batch together.

    Returns:
        A scalar. With one image and no negatives it is 0.
    """
    start, count = world.place(first)
    with torch.autocast(first.device.type, enabled=False):  # a bf16 product would blur similarities divided by 0.1
        z_Nd = F.normalize(torch.cat([world.gather(first), world.gather(second)]).float(), dim=1)
        own = torch.arange(start, start + len(first), device=z_Nd.device)
        anchors = torch.cat([own, own + count])  # positions among the N projections: first views, then second ones
        z_ad = z_Nd if world.size == 1 else z_Nd[anchors]
        similarity_aN = z_ad @ z_Nd.T / temperature
    left_out = anchors[:, None] == torch.arange(2 * count, device=z_Nd.device)  # an anchor is not its own negative
    partner = torch.cat([own + count, own])
    if clusters is not None:
        both_N = world.gather(clusters).repeat(2)
        same = (both_N[anchors, None] == both_N) & (both_N[anchors, None] >= 0)
        same[torch.arange(len(anchors), device=z_Nd.device), partner] = False  # the positive stays
        if confidences is None:
            left_out = left_out | same
        else:
            # log of the times that a negative counts, added to its similarity: exp(s + log w) = w exp s. It is -inf
            # where both are certain, and the negative is gone.
            sure_N = world.gather(confidences).repeat(2).float()
            weight = torch.log1p(-sure_N[anchors, None] * sure_N)
            similarity_aN = similarity_aN + weight.masked_fill(~same, 0.0)
    loss = F.cross_entropy(similarity_aN.masked_fill(left_out, float("-inf")), partner)
    return loss * world.weight(len(first), count)
