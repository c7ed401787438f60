"""Optimisers by name, and how learning rates scale with the batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from reprise.training.lars import LARS
from reprise.training.params import REFERENCE_BATCH, TrainParams


def scaled_learning_rate(base: float, batch_size: int) -> float:
    """Linear scaling: base * batch / 256 (Goyal et al. 2017)."""
    return base * batch_size / REFERENCE_BATCH


def build_optimizer(
    model: nn.Module, train: TrainParams, own_groups: list[dict[str, Any]] | None = None
) -> torch.optim.Optimizer:
    """SGD with momentum, AdamW or LARS; biases and normalisation parameters are not decayed.

    Args:
        own_groups: parameters that are optimised in their own way (Method.parameter_groups).
    """
    own_groups = own_groups or []
    taken = {id(p) for group in own_groups for p in group["params"]}
    parameters = [p for p in model.parameters() if p.requires_grad and id(p) not in taken]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": train.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups += [{"weight_decay": train.weight_decay, **group} for group in own_groups]
    for group in groups:
        if "weight_decay_end" in group:  # kept in the group, so that a resumed run knows where it began
            group["weight_decay_start"] = group["weight_decay"]
    peak = scaled_learning_rate(train.learning_rate, train.batch_size)
    on_gpu = all(p.is_cuda for p in model.parameters())  # fused: one kernel instead of one a parameter
    if train.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=peak, fused=on_gpu)
    if train.optimizer == "lars":
        return LARS(groups, lr=peak, momentum=train.momentum)
    return torch.optim.SGD(groups, lr=peak, momentum=train.momentum, fused=on_gpu)
