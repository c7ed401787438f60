"""What keeps embeddings from collapsing without negatives: every dimension varies, and none repeats another.

Source: Bardes, Ponce, LeCun, "VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning",
ICLR 2022, algorithm 1 and equations 1 to 4.

Shape legend: B batch, d embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor

from reprise.objectives.precision import full_precision

EPSILON = 1e-4  # under the root of the standard deviation (equation 2)


@full_precision
def variance_term(z: Tensor) -> Tensor:
    """Average max(0, 1 - sqrt(var + 1e-4)) over dimensions; the variance is unbiased, 0 for a batch of one."""
    variance = (z - z.mean(0)).square().sum(0) / max(1, len(z) - 1)
    return torch.relu(1.0 - (variance + EPSILON).sqrt()).mean()


@full_precision
def covariance_term(z: Tensor) -> Tensor:
    """Sum the squared covariances of different dimensions and divide by d."""
    centred = z - z.mean(0)
    covariance = centred.T @ centred / max(1, len(z) - 1)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / z.shape[1]
