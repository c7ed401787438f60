"""Sinkhorn-Knopp: soft assignments of a batch to prototypes that use all prototypes alike.

Source: Cuturi, "Sinkhorn Distances", NeurIPS 2013; Caron et al., "Unsupervised Learning of Visual Features by
Contrasting Cluster Assignments" (SwAV), NeurIPS 2020, section 3.1. In the log domain: exp(score / 0.05) overflows
half precision and, at smaller epsilon, float32.

The same scaling makes a square table of affinities doubly stochastic (Sinkhorn, "A Relationship between Arbitrary
Positive Matrices and Doubly Stochastic Matrices", 1964): each sample is then a member of the neighbourhoods of all.

Shape legend: b samples of this rank, B of all ranks, K prototypes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from reprise.objectives.precision import full_precision
from reprise.runtime.world import ALONE, World


@torch.no_grad()
@full_precision
def sinkhorn(scores: Tensor, epsilon: float, iterations: int, world: World = ALONE) -> Tensor:
    """Find assignments near exp(scores / epsilon) with equal mass for every prototype.

    Args:
        scores: (b, K) similarities to the prototypes.
        epsilon: above 0; smaller is harder.
        iterations: of scaling prototypes, then samples; 0 is a softmax.
        world: the processes that hold the batch together; prototypes are made equal over all of it.

    Returns:
        (b, K), rows sum to 1 exactly (the last scaling); columns of all ranks together approach B / K.
    """
    start, count = world.place(scores)
    log_q_BK = world.gather(scores) / epsilon
    prototypes = scores.shape[1]
    for _ in range(iterations):
        log_q_BK = log_q_BK - torch.logsumexp(log_q_BK, dim=0, keepdim=True) + math.log(count / prototypes)
        log_q_BK = log_q_BK - torch.logsumexp(log_q_BK, dim=1, keepdim=True)
    log_q_bK = log_q_BK[start : start + len(scores)]
    return torch.softmax(log_q_bK, dim=1) if iterations == 0 else log_q_bK.exp()


@full_precision
def doubly_stochastic(affinity: Tensor, temperature: float, half_steps: int) -> Tensor:
    """Scale exp(affinity / temperature) until rows and columns sum to 1, with gradients through all steps.

    Args:
        affinity: (B, B) of the whole batch.
        temperature: above 0; smaller is sparser.
        half_steps: scalings, of rows first and then of columns and rows in turn. After an odd number rows sum to 1
            exactly, and columns nearly.

    Returns:
        (B, B), above 0. It is nearly symmetric where the affinity is.
    """
    log_q = affinity / temperature
    for step in range(half_steps):
        log_q = log_q - torch.logsumexp(log_q, dim=1 - step % 2, keepdim=True)
    return log_q.exp()
