"""Pairs of images pulled together as far as their labels agree: a binary cross entropy on pairwise similarities.

Shape legend: B images, L labels of each, d width. Projections are l2-normalised here.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from reprise.objectives.precision import full_precision

Target = Literal["cosine", "jaccard"]


@full_precision
def label_agreement(labels: Tensor, target: Target) -> tuple[Tensor, Tensor]:
    """Compare images by the labels that they carry.

    With one label for each image both forms are 1 for images of one label and 0 for all others.

    Args:
        labels: (B, L) of 0 and 1, NaN where unknown.
        target: `cosine`, the labels in common over the root of the product of both numbers, or `jaccard`, the labels
            in common over those that either has.

    Returns:
        (B, B) in [0, 1], and (B,) bool, which images can be compared: all their labels are known, and one is there.
        Rows and columns of the others are 0. Labels in half precision are counted in float32: bf16 has no 301.
    """
    known = ~labels.isnan().any(dim=1)
    x = labels.nan_to_num(0.0) * known[:, None]
    common, count = x @ x.T, x.sum(dim=1)
    product = count[:, None] * count
    whole = product.sqrt() if target == "cosine" else count[:, None] + count - common
    return common / whole.clamp(min=1.0), known & (count > 0)


@full_precision
def soft_relation(queries: Tensor, keys: Tensor, agreement: Tensor, known: Tensor, scale: float, bias: float) -> Tensor:
    """Ask that similar labels mean similar projections.

    Args:
        queries, keys: (B, d), row i of both from image i.
        agreement: (B, B) in [0, 1], what the similarity of query i and key j should say.
        known: (B,) bool, images that take part, as query and as key.
        scale, bias: the similarity times the first, plus the second, is the logit of the agreement.

    Returns:
        Mean over all pairs of images that take part, an image with itself included; 0 where none does.
    """
    logits_BB = scale * F.normalize(queries, dim=1) @ F.normalize(keys, dim=1).T + bias
    each_BB = F.binary_cross_entropy_with_logits(logits_BB, agreement.to(logits_BB.dtype), reduction="none")
    takes_part_BB = (known[:, None] & known).to(logits_BB.dtype)
    return (each_BB * takes_part_BB).sum() / takes_part_BB.sum().clamp(min=1.0)
