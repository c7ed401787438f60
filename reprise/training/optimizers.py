"""Optimisers by name, and how learning rates scale with the batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from reprise.training.annealing import anneal
from reprise.training.lars import LARS
from reprise.training.params import REFERENCE_BATCH, TrainParams
from reprise.training.schedule import Rates


def scaled_learning_rate(base: float, batch_size: int) -> float:
    """Scale a base rate linearly with the batch: base * batch / 256.

    Source: Goyal et al., "Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour", 2017.

    Args:
        base: learning rate at a global batch of 256 images.
        batch_size: images in a global batch.
    """
    return base * batch_size / REFERENCE_BATCH


def build_optimizer(
    model: nn.Module, train: TrainParams, own_groups: list[dict[str, Any]] | None = None
) -> torch.optim.Optimizer:
    """Build SGD with momentum, AdamW or LARS; biases and parameters of normalisations are not decayed.

    Args:
        model: on its device, since fused kernels exist for some devices only.
        train: names the optimiser and its numbers.
        own_groups: parameters that are optimised in their own way. Each is one of torch's param groups, and may set
            `weight_decay`, `weight_decay_end`, `constant_rate` and `rate_factor`: see `set_rates`.
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


def set_rates(optimizer: torch.optim.Optimizer, rates: Rates | None, step: int, steps: int) -> float:
    """Set the learning rate and weight decay of every param group for one step, and return the learning rate.

    A group with `constant_rate` stays at the peak rate (SimSiam's predictor), one with `rate_factor` takes that many
    times the rate (Barlow Twins' biases), and one with `weight_decay_end` moves to it along half a cosine (DINO).

    Args:
        optimizer: its groups are changed in place.
        rates: of the training; None leaves everything as it is.
        step: counted from 0.
        steps: of the whole training.
    """
    if rates is None:
        return float(optimizer.param_groups[0]["lr"])
    rate = rates.at(step)
    for group in optimizer.param_groups:
        group["lr"] = (rates.peak if group.get("constant_rate") else rate) * group.get("rate_factor", 1.0)
        if "weight_decay_end" in group:
            group["weight_decay"] = anneal(step / steps, group["weight_decay_start"], group["weight_decay_end"])
    return rate
