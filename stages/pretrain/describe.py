"""What is written about a run beside its weights: config.json and history.csv."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import torch
from torch.utils.flop_counter import FlopCounterMode

from reprise.networks.axes import blank
from reprise.networks.backbone import backbone_named
from reprise.reading.order import conflicts
from reprise.reading.partners import Partners
from reprise.storage.atomic import atomic_file
from reprise.training.history.records import Trained
from reprise.training.schedule import Rates
from stages.pretrain.epochs import PretrainingEpochs
from stages.pretrain.inputs.images import Inputs
from stages.pretrain.inputs.starting import options_of, origin, preparation, side_of
from stages.pretrain.method import Method
from stages.pretrain.setup import Setup
from stages.pretrain.views.settings import describe_settings, described

HISTORY = ("epoch", "step", "loss", "learning_rate", "feature_std", "rankme")


def describe(setup: Setup, method: Method, inputs: Inputs, epochs: PretrainingEpochs, done: Trained) -> dict[str, Any]:
    """Compose config.json: how to rebuild the network, what it saw, and under which budget."""
    image, train, n = setup.image, setup.train, inputs.shown
    architecture, options = method.own_backbone(setup.method) or (train.backbone, options_of(setup.start))
    finished = len(done.history)
    read = sorted([*inputs.facts, *(inputs.masks.names if inputs.masks is not None else ())])
    return {
        "run": setup.row.name,
        "method": setup.row.method,
        "labels": setup.row.labels,
        **({"reads": read} if read else {}),
        "seed": setup.seed,
        "architecture": architecture,
        "options": options,
        "stem": train.stem,
        "input_size": side_of(setup, type(method)),
        "channels": image.channels,
        "mean": list(inputs.views.mean),
        "std": list(inputs.views.std),
        **preparation(setup, type(method)),
        "pooling": backbone_named(architecture, options).pooling,
        "num_features": int(method.backbone.num_features),
        "backbone_parameters": sum(weight.numel() for weight in method.backbone.parameters()),
        "weights": method.weights,
        **origin(setup),
        "heads": {name: head.widths for name, head in method.heads().items()},
        **({} if train.image_share == 1 else {"image_share": train.image_share}),
        "epochs": finished,
        "steps": done.step,
        "images_seen": finished * n,
        "crops_seen": finished * n * method.crops_of_an_image(inputs.views),
        "flops_per_image": flops_per_image(method, setup),
        "precision": setup.compute.precision,
        "device": setup.compute.device,
        "threads": setup.compute.threads,
        "batch_size_used": setup.batch_size(n) if finished else None,
        "learning_rate_base": train.learning_rate,
        "learning_rate_scaled": setup.peak(n),
        "learning_rates": learning_rates(setup.rates(n)) if finished else None,
        "sampling": sampled(inputs, epochs) if finished else None,
        **({} if inputs.partners is None else {"pairs": paired(inputs.partners)}),
        "views": describe_settings(inputs.views),
        "view_plan": described(method.view_plan(inputs.views)),
        "parameters": {"train": train.model_dump(), "method": setup.method.model_dump()},
    }


def learning_rates(rates: Rates) -> dict[str, float]:
    """State the learning rates that were really trained with, and how many steps warmed up."""
    return {
        "first": rates.at(0),
        "highest": max(rates.at(max(0, min(rates.warmup, rates.steps) - 1)), rates.at(rates.steps - 1)),
        "last": rates.at(rates.steps - 1),
        "warmup_steps": min(rates.warmup, rates.steps),
        "steps": rates.steps,
    }


def flops_per_image(method: Method, setup: Setup) -> int:
    """Count the operations of one forward pass of the backbone; a product and a sum count as two."""
    image, side = setup.image, side_of(setup, type(method))
    device = next((p.device for p in method.backbone.parameters()), torch.device("cpu"))
    method.backbone.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        method.backbone(blank(method.backbone, 1, image.channels, side, device))
    return counter.get_total_flops()


def sampled(inputs: Inputs, epochs: PretrainingEpochs) -> dict[str, Any] | None:
    """Describe how often images of one cluster met in the batches of the first epoch; None without labels.

    It is None of pairs too, which are meant to meet.
    """
    if inputs.partners is not None or not (inputs.clusters >= 0).any():
        return None
    met = conflicts(inputs.clusters, epochs.order(0))
    return {
        "kind": epochs.sampling,
        "clusters": int(inputs.clusters.max()) + 1,
        "largest": met.largest,
        "batches": met.batches,
        "conflicting_pairs": met.pairs,
        "share_affected": round(met.share_affected, 6),
        **({} if epochs.windows is None else {"windows": epochs.windows_in(0)}),
    }


def paired(partners: Partners) -> dict[str, int]:
    """Count the pairs that a run trained on, and the images that have no partner."""
    anchors = len(partners.anchors)
    return {"pairs": len(partners.first) // 2, "anchors": anchors, "without_partner": partners.images - anchors}


def write_history(path: Path, history: list[dict[str, float]]) -> None:
    """Write history.csv: one row per epoch, and only the header for gradient-free methods.

    A cell is empty where an epoch lacks a figure.
    """
    names = list(dict.fromkeys(name for row in history for name in row)) if history else list(HISTORY)
    whole = ("epoch", "step")
    columns = {n: pa.array([r.get(n) for r in history], pa.int64() if n in whole else pa.float64()) for n in names}
    with atomic_file(path) as file:
        pyarrow.csv.write_csv(pa.table(columns), file)
