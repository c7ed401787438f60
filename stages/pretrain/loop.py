"""The training loop: one function, top to bottom. Everything random in it is a pure function of (seed, step),
so a run that is killed and resumed takes the steps that it would have taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reprise.artifacts.checkpoints import latest_checkpoint, save_checkpoint
from reprise.config.errors import TrainingError
from reprise.measures.spectrum import feature_std, rankme
from reprise.networks.state import arrays_of, load_optimizer, tensors_of
from reprise.reading.order import batch_count
from reprise.runtime.device import Compute
from reprise.runtime.progress import Progress
from reprise.runtime.seeds import seed_torch
from reprise.training.annealing import anneal
from reprise.training.optimizers import build_optimizer, scaled_learning_rate
from reprise.training.params import TrainParams
from reprise.training.schedule import learning_rate_at, load_schedule
from stages.pretrain.method import Batch, Method

# Steps between two looks at the loss: on a GPU the host waits there for all that it has queued. No checkpoint is saved
# before its losses were looked at.
LOOK_EVERY = {"cpu": 1, "cuda": 50}
WATCHED = 64  # images that are embedded once more at the end of an epoch
MakeViews = Callable[[np.ndarray, int, int], list[Tensor]]  # (image rows, epoch, batch) -> views
MakeBatches = Callable[[int], list[np.ndarray]]  # epoch -> image rows, a batch each


@dataclass
class Trained:
    """What the loop leaves behind besides the weights: a row an epoch, and how many steps were taken."""

    history: list[dict[str, float]] = field(default_factory=list)
    step: int = 0


def train(
    method: Method,
    make_batches: MakeBatches,
    make_views: MakeViews,
    clusters: np.ndarray,
    params: TrainParams,
    compute: Compute,
    seed: int,
    work: Path,
    label: str,
    live: Callable[[int, dict[str, float]], None] = lambda epoch, row: None,
    confidences: np.ndarray | None = None,
) -> Trained:
    """Train `method` in place, going on from the newest checkpoint in `work`.

    Args:
        make_batches: epoch -> the image rows of each batch; as many batches in every epoch.
        make_views: views of some rows; a pure function of its arguments.
        clusters: (n,) int64, -1 for no label.
        work: folder of the checkpoints, already locked.
        label: what the progress line says.
        live: called after each epoch with its row of the history.
        confidences: (n,) float32 for a method that weighs by them.

    Raises:
        TrainingError: the loss is not finite; the last good checkpoint stays.
    """
    device = torch.device(compute.device)
    method.to(device=device, memory_format=torch.channels_last).train()
    optimizer = build_optimizer(method, params, method.parameter_groups())
    batches_an_epoch = batch_count(len(clusters), params.batch_size)
    steps, warmup = params.epochs * batches_an_epoch, min(params.warmup_epochs, params.epochs - 1) * batches_an_epoch
    peak, schedule = scaled_learning_rate(params.learning_rate, params.batch_size), load_schedule(params.schedule)

    # ------------------------------------------------------------------ resume
    done, losses = Trained(), []
    unseen: list[Tensor] = []  # losses at which nobody has looked yet
    shown: dict[str, float] = {}  # on the progress line: the last loss, what the last epoch's features look like
    if (state := latest_checkpoint(work)) is not None:
        restore(state, method, optimizer)
        done, losses = Trained(state["history"], state["step"]), state["losses"]

    # ------------------------------------------------------------------- steps
    total = params.epochs * len(clusters)
    with Progress(label, total, "images", total * done.step // steps) as progress:
        while done.step < steps:
            epoch, first = divmod(done.step, batches_an_epoch)
            for number, rows in enumerate(make_batches(epoch)[first:], start=first):
                seed_torch(seed, "step", done.step)
                rate = learning_rate_at(schedule, done.step, steps, warmup, peak)
                for group in optimizer.param_groups:
                    group["lr"] = (peak if group.get("constant_rate") else rate) * group.get("rate_factor", 1.0)
                    if "weight_decay_end" in group:
                        start, end = group["weight_decay_start"], group["weight_decay_end"]
                        group["weight_decay"] = anneal(done.step / steps, start, end)
                views = [v.to(device, non_blocking=True) for v in make_views(rows, epoch, number)]
                of_rows = [clusters[rows], rows] if confidences is None else [clusters[rows], rows, confidences[rows]]
                batch = Batch(views, *(torch.from_numpy(v).to(device, non_blocking=True) for v in of_rows))
                with compute.autocast():
                    loss, logs = method.step(batch)
                last = number == batches_an_epoch - 1
                due = last or (done.step + 1) % params.checkpoint_steps == 0
                unseen.append(loss.detach())
                if due or (done.step + 1) % LOOK_EVERY[device.type] == 0:
                    seen = torch.stack(unseen).tolist()
                    check_finite(seen, f"{label}, step %d of {steps}, learning rate {rate:.4g}", done.step, work)
                    losses += seen
                    unseen, shown = [], shown | {"loss": seen[-1]}
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                method.after_backward(done.step / steps)
                optimizer.step()
                method.after_step((done.step + 1) / steps)
                done.step += 1
                progress.advance(len(rows), epoch=epoch + 1, lr=rate, **shown)

                # ------------------------------------------ end of an epoch, checkpoint
                if last:
                    row = {
                        "epoch": epoch + 1,
                        "step": done.step,
                        "loss": sum(losses) / len(losses),
                        "learning_rate": rate,
                        **collapse(logs),
                    }
                    done.history.append(row)
                    watched = own_view_found(method.backbone, views, compute)
                    losses, shown = [], shown | watched | {k: row[k] for k in ("feature_std", "rankme") if k in row}
                    live(epoch + 1, row | watched)
                if due and done.step < steps:
                    save_checkpoint(work, done.step, snapshot(method, optimizer, done, losses))
    return done


def check_finite(losses: list[float], where: str, step: int, work: Path) -> None:
    """Refuse to go on after a loss that is not finite.

    Args:
        losses: of consecutive steps, the last one at `step`. where: with a place for the number of the step.

    Raises:
        TrainingError: naming the first step whose loss is not finite.
    """
    for number, value in enumerate(losses, start=step + 1 - len(losses)):
        if not math.isfinite(value):
            raise TrainingError(
                "the loss is not finite",
                where=where % number,
                found=value,
                fix=f"Lower the learning rate or set train.precision to fp32; checkpoints are in {work}.",
            )


def collapse(logs: dict[str, Tensor]) -> dict[str, float]:
    """Figures of one batch and its features: their spread and rank tell collapse while it happens."""
    figures = {k: float(v.detach()) for k, v in logs.items() if k != "features"}
    if "features" in logs:
        features = logs["features"].detach().float().cpu()
        figures |= {"feature_std": feature_std(features), "rankme": rankme(features)}
    return figures


@torch.no_grad()
def own_view_found(backbone: nn.Module, views: list[Tensor], compute: Compute) -> dict[str, float]:
    """Of some images of a batch: the share whose first view lies nearest, by cosine, to their own second view.

    1/n at chance, 1 when the views of an image stay together and images apart. It stands where others show an online
    kNN, which would bring labels into pretraining. For display only: nothing is drawn and nothing changes (running
    statistics are read, not updated). Empty for methods whose first two views are not alike.
    """
    if len(views) < 2 or views[0].shape != views[1].shape:
        return {}
    modes = {module: module.training for module in backbone.modules()}
    backbone.eval()
    with compute.autocast():
        both = backbone(torch.cat([view[:WATCHED] for view in views[:2]])).float()
    for module, mode in modes.items():
        module.training = mode
    first, second = F.normalize(both, dim=1).chunk(2)
    nearest = (first @ second.T).argmax(dim=1)
    return {"own_view": float((nearest == torch.arange(len(first), device=nearest.device)).float().mean())}


def snapshot(method: Method, optimizer: torch.optim.Optimizer, done: Trained, losses: list[float]) -> dict[str, Any]:
    """The whole state between two steps, as arrays and plain values.

    Random generators need no place in it: they are reseeded at each step.
    """
    return {
        "step": done.step,
        "history": done.history,
        "losses": losses,
        "method": arrays_of(method.state_dict()),
        "optimizer": arrays_of(optimizer.state_dict()),
    }


def restore(state: dict[str, Any], method: Method, optimizer: torch.optim.Optimizer) -> None:
    """Load a `snapshot`."""
    method.load_state_dict(tensors_of(state["method"]), strict=True)
    load_optimizer(optimizer, state["optimizer"])
