"""Coding rate: how many bits a set of features needs at a given precision, a smooth measure of their volume.

Source: Yu, Chan, You, Song, Ma, "Learning Diverse and Discriminative Representations via the Principle of Maximal
Coding Rate Reduction" (MCR2), NeurIPS 2020, equation 1: R(Z) = 1/2 logdet(I + d / (m epsilon^2) Z^T Z); equation 2, in
clusters with memberships Pi_k: R_c(Z, Pi) = sum over k of tr_k / (2 m) logdet(I + d / (tr_k epsilon^2) Z^T Pi_k Z) with
tr_k the sum of the memberships in cluster k. The difference R - R_c is large where clusters span different directions
and each of them spans few.

Shape legend: m features (rows) of all ranks, d width, K clusters.
"""

from __future__ import annotations

import torch
from torch import Tensor

from reprise.objectives.precision import full_precision
from reprise.runtime.world import ALONE, World


@full_precision
def coding_rate(z: Tensor, precision: float, world: World = ALONE) -> Tensor:
    """Compute R(Z) of the features of the whole batch.

    Args:
        z: (rows of this rank, d).
        precision: the paper's epsilon squared; the authors' codes call it `eps`.
        world: the processes that hold the batch together.

    Returns:
        A scalar, at least 0. For unit vectors that are all equal it is 1/2 log(1 + d / precision); features that spread
        have more, so it is maximised.
    """
    z = world.gather(z)
    count, width = z.shape
    # det(I + a Z^T Z) = det(I + a Z Z^T): the smaller of the two is factorised.
    gram = z.T @ z if width <= count else z @ z.T
    scaled = torch.eye(len(gram), dtype=z.dtype, device=z.device) + gram * (width / (count * precision))
    return torch.linalg.cholesky(scaled).diagonal().log().sum()  # logdet is twice this


@full_precision
def rate_in_clusters(z: Tensor, memberships: Tensor, precision: float) -> Tensor:
    """Compute R_c(Z, Pi): how many bits features need where each cluster has a code of its own.

    Args:
        z: (m, d) features of the whole batch.
        memberships: (m, K), at least 0. A cluster that nobody is in needs nothing.
        precision: the paper's epsilon squared.

    Returns:
        A scalar, at least 0. With one cluster that holds all it is R(Z).
    """
    count, width = z.shape
    mass = memberships.sum(dim=0)
    # The products of all pairs of features, weighed by the memberships of each cluster: (K, d, d) in one product.
    pairs = (z.unsqueeze(2) * z.unsqueeze(1)).flatten(1)
    grams = (memberships.T @ pairs).view(-1, width, width)
    scale = width / (mass.clamp_min(torch.finfo(z.dtype).tiny ** 0.5) * precision)
    scaled = torch.eye(width, dtype=z.dtype, device=z.device) + grams * scale[:, None, None]
    half_logdets = torch.linalg.cholesky(scaled).diagonal(dim1=1, dim2=2).log().sum(dim=1)
    return (mass * half_logdets).sum() / count
