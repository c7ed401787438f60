"""Memberships of a batch in clusters: relaxed draws, and how they are spread.

Source: Jang, Gu, Poole, "Categorical Reparameterization with Gumbel-Softmax", and Maddison, Mnih, Teh, "The Concrete
Distribution", both ICLR 2017: softmax((log p_k + g_k) / temperature) with g_k = -log(-log u_k), u_k uniform in (0, 1),
has its largest entry at k with probability p_k, and gradients reach p through it.

Shape legend: B samples, K clusters.
"""

from __future__ import annotations

import torch
from torch import Tensor

from reprise.objectives.precision import full_precision

_LEAST = 1e-20  # of a uniform draw: it may be 0, whose logarithm has no value


@full_precision
def gumbel_softmax(logits: Tensor, temperature: float, uniform: Tensor) -> Tensor:
    """Draw relaxed members: (B, K) logits -> (B, K), rows sum to 1.

    Args:
        logits: log probabilities, up to a constant for each row.
        temperature: above 0; rows approach one-hot vectors as it falls.
        uniform: (B, K) draws from [0, 1), which whoever seeds the training has made.
    """
    waits = -torch.log(uniform.clamp_min(_LEAST))
    noise = -torch.log(waits.clamp_min(_LEAST))
    return torch.softmax((torch.log_softmax(logits, dim=1) + noise) / temperature, dim=1)


@full_precision
def divergence(logits: Tensor, prior: Tensor) -> Tensor:
    """Compute the Kullback-Leibler divergence of memberships from a prior, both as logits: (B, K), (B, K) -> (B,)."""
    own = torch.log_softmax(logits, dim=1)
    return (own.exp() * (own - torch.log_softmax(prior, dim=1))).sum(dim=1)


@full_precision
def evenness(memberships: Tensor) -> Tensor:
    """Compute the entropy of the mean membership as a share of log K: 1 where all clusters are used alike, 0 for one.

    Args:
        memberships: (B, K), rows sum to 1; K of 1 has no other entropy than 0.
    """
    mean = memberships.mean(dim=0)
    entropy = -(mean * torch.log(mean.clamp_min(_LEAST))).sum()
    return entropy / torch.log(torch.tensor(float(max(2, memberships.shape[1])), dtype=mean.dtype, device=mean.device))
