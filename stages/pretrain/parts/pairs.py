"""Batches of pairs: who may be a negative of whom, what a pair counts, and how to cut one without parting a pair."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from reprise.training.batches import mapped
from stages.pretrain.method import Batch


def others(rows: Tensor, partner: Tensor) -> Tensor:
    """Tell for each image of a batch which ones are neither the same image nor its partner.

    An image may stand in a batch several times, as an anchor and as the partner of others.

    Args:
        rows: (B,) int64, which image each one is.
        partner: (B,) int64, where the partner of each one stands.

    Returns:
        (B, B) bool.
    """
    return (rows[:, None] != rows) & (rows[partner][:, None] != rows)


def weighted_mean(each: Tensor, weights: Tensor, power: float) -> Tensor:
    """Average over images, each of which counts as its pair is trusted; the weights of a batch sum to 1.

    Args:
        each: (B,) loss of each image.
        weights: (B,) in (0, 1], of the pairs.
        power: of the weights, at least 0; 0 lets all pairs count alike.

    Returns:
        A scalar.
    """
    counted = weights.to(each.dtype) ** power
    return (counted * each).sum() / counted.sum()


def parts_of(batch: Batch, count: int) -> list[Batch]:
    """Cut a batch into parts whose sizes differ by at most one image, or by one pair where it holds pairs.

    Args:
        batch: of at least as many images, or pairs, as there are parts.
        count: parts.
    """
    size = len(batch.rows)
    if "partner" not in batch.fields:
        return [_chosen(batch, places) for places in torch.arange(size).tensor_split(count)]
    parts = []
    for first in torch.arange(size // 2, device=batch.rows.device).tensor_split(count):
        chosen = torch.cat([first, batch.partner[first]])
        part = _chosen(batch, chosen)
        partner = torch.arange(len(chosen), device=chosen.device).roll(len(first))
        parts.append(replace(part, fields={**part.fields, "partner": partner}))
    return parts


def _chosen(batch: Batch, places: Tensor) -> Batch:
    """Return some images of a batch; what was drawn for views lies on the host, the rest on the device."""
    part: Batch = mapped(batch, lambda x: x[places.to(x.device)])
    return part
