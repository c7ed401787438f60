"""Sinkhorn-Knopp: soft assignments of a batch to prototypes that use all prototypes alike.

Source: Cuturi, "Sinkhorn Distances", NeurIPS 2013; Caron et al., "Unsupervised Learning of Visual Features by
Contrasting Cluster Assignments" (SwAV), NeurIPS 2020, section 3.1. In the log domain: exp(score / 0.05) overflows
half precision and, at smaller epsilon, float32.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from reprise.objectives.precision import full_precision


@torch.no_grad()
@full_precision
def sinkhorn(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Assignments near exp(scores / epsilon) with equal mass for every prototype.

    Args:
        scores: (B, K) similarities to the prototypes. iterations: of scaling prototypes, then samples.

    Returns:
        (B, K), rows sum to 1 exactly (the last scaling); columns approach B / K.
    """
    log_q = scores / epsilon
    count, prototypes = scores.shape
    for _ in range(iterations):
        log_q = log_q - torch.logsumexp(log_q, dim=0, keepdim=True) + math.log(count / prototypes)
        log_q = log_q - torch.logsumexp(log_q, dim=1, keepdim=True)
    return torch.softmax(log_q, dim=1) if iterations == 0 else log_q.exp()
