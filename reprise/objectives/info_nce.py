"""InfoNCE: the cross entropy of finding a query's own key among others (van den Oord et al. 2018).

Shape legend: b queries of this rank, B of all ranks, K negatives, d width. Projections are l2-normalised here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from reprise.objectives.precision import full_precision
from reprise.runtime.world import ALONE, World


@full_precision
def info_nce(queries: Tensor, keys: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """Compare each query with its key and with shared negatives (He et al. 2020, equation 1).

    Args:
        queries, keys: (b, d), row i of both from image i.
        negatives: (K, d).
        temperature: above 0.

    Returns:
        Mean over the queries of -log softmax at the own key; 0 without negatives.
    """
    q, k, n = (F.normalize(v, dim=1) for v in (queries, keys, negatives))
    logits = torch.cat([(q * k).sum(1, keepdim=True), q @ n.T], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.int64, device=q.device))


@full_precision
def in_batch_info_nce(queries: Tensor, keys: Tensor, temperature: float, world: World = ALONE) -> Tensor:
    """Compare each query with its key; the keys of the other images of the batch are the negatives.

    Args:
        queries, keys: (b, d), row i of both from image i.
        temperature: above 0.
        world: the processes that hold the batch together.

    Returns:
        Mean over the queries; 0 for a batch of one, log B where all images are equal.
    """
    start, count = world.place(keys)
    logits_bB = F.normalize(queries, dim=1) @ F.normalize(world.gather(keys), dim=1).T / temperature
    own = torch.arange(start, start + len(queries), device=queries.device)
    return F.cross_entropy(logits_bB, own) * world.weight(len(queries), count)
