"""Coding rate: how many bits a set of features needs at a given precision, a smooth measure of their volume.

Source: Yu, Chan, You, Song, Ma, "Learning Diverse and Discriminative Representations via the Principle of Maximal
Coding Rate Reduction" (MCR2), NeurIPS 2020, equation 1: R(Z) = 1/2 logdet(I + d / (m epsilon^2) Z^T Z).

Shape legend: m features (rows) of all ranks, d width.
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
