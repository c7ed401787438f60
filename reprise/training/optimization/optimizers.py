"""Optimisers by name, and how learning rates scale with the batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from reprise.runtime.world import is_part
from reprise.training.optimization.annealing import anneal
from reprise.training.optimization.lars import LARS
from reprise.training.params import REFERENCE_BATCH, TrainParams
from reprise.training.schedule import Rates


def scaled_learning_rate(base: float, batch_size: int, scaling: str = "linear") -> float:
    """Scale a base rate linearly with the batch: base * batch / 256.

    Source: Goyal et al., "Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour", 2017.

    Args:
        base: learning rate at a global batch of 256 images.
        batch_size: images that a step really averages over; that is fewer than were asked for where an epoch is cut
            into equal batches.
        scaling: `linear`, or `none`, which returns the base.
    """
    return base if scaling == "none" else base * batch_size / REFERENCE_BATCH


def build_optimizer(
    model: nn.Module,
    train: TrainParams,
    own_groups: list[dict[str, Any]] | None = None,
    batch_size: int | None = None,
) -> torch.optim.Optimizer:
    """Build SGD with momentum, Adam, AdamW or LARS.

    Matrices are decayed; biases and parameters of normalisations (everything of one dimension) only where
    `train.decay_vectors` says so.

    Args:
        model: on its device, since fused kernels exist for some devices only.
        train: names the optimiser and its numbers.
        own_groups: parameters that are optimised in their own way. Each is one of torch's param groups, and may set
            `weight_decay`, `weight_decay_end`, `constant_rate` and `rate_factor`: see `set_rates`. Where it sets no
            `weight_decay`, its matrices and vectors are decayed like all others.
        batch_size: images that a step really averages over; None takes `train.batch_size`.
    """
    own_groups = own_groups or []
    taken = {id(p) for group in own_groups for p in group["params"]}
    rest = [p for p in model.parameters() if p.requires_grad and id(p) not in taken]
    groups = _by_decay({"params": rest}, train)
    for group in own_groups:
        split = [group] if "weight_decay" in group else [g for g in _by_decay(group, train) if g["params"]]
        groups += split
    for group in groups:
        if "weight_decay_end" in group:  # kept in the group, so that a resumed run knows where it began
            group["weight_decay_start"] = group["weight_decay"]
    size = train.batch_size if batch_size is None else batch_size
    peak = scaled_learning_rate(train.learning_rate, size, train.learning_rate_scaling)
    # Fused: one kernel instead of one a parameter. It does not take parts of weights beside whole ones.
    on_gpu = all(p.is_cuda and not is_part(p) for p in model.parameters())
    if train.optimizer in ("adamw", "adam"):
        adam = torch.optim.AdamW if train.optimizer == "adamw" else torch.optim.Adam
        return adam(groups, lr=peak, fused=on_gpu)
    if train.optimizer == "lars":
        return LARS(
            groups,
            peak,
            train.momentum,
            nesterov=train.nesterov,
            decay_vectors=train.decay_vectors,
            **train.lars.model_dump(),
        )
    return torch.optim.SGD(groups, lr=peak, momentum=train.momentum, nesterov=train.nesterov, fused=on_gpu)


def _by_decay(group: dict[str, Any], train: TrainParams) -> list[dict[str, Any]]:
    """Split a param group into its matrices, which decay, and its vectors, which do so where `train` says it."""
    end = {} if train.weight_decay_end is None else {"weight_decay_end": train.weight_decay_end}
    decayed = {**group, "weight_decay": train.weight_decay, **end}
    kept = decayed if train.decay_vectors else {**group, "weight_decay": 0.0}
    return [
        {**decayed, "params": [p for p in group["params"] if p.ndim > 1]},
        {**kept, "params": [p for p in group["params"] if p.ndim <= 1]},
    ]


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
            progress = step / (steps * rates.stretch)
            group["weight_decay"] = anneal(progress, group["weight_decay_start"], group["weight_decay_end"])
    return rate
