"""What is looked at when an epoch ends: spread and rank of the features, and whether images find their own view.

Features that shrink to a point, or to a line, tell of collapse while it happens; collapse.py states the rule that stops
a training. Nothing here changes the weights.

Shape legend: B batch, d features.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reprise.artifacts.weights.checkpoints import newest_checkpoint
from reprise.config.errors import TrainingError
from reprise.measures.spectrum import feature_std, rankme
from reprise.networks.state import in_evaluation
from reprise.runtime.device import Compute
from reprise.runtime.world import is_part
from reprise.training.history.records import Observer
from stages.pretrain.method import Batch, Method
from stages.pretrain.monitoring.collapse import BEGIN, FIRST_STEP, IN_A_ROW, failure, judged
from stages.pretrain.monitoring.live import LiveLog
from stages.pretrain.monitoring.watching import Watching

WATCHED = 64  # images that are embedded once more at the end of an epoch
SHOWN = ("feature_std", "rankme")  # on the progress line
PREFIXES = {"features": ("feature_std", "rankme"), "projections": ("projection_std", "projection_rankme")}


class RunObserver(Observer):
    """Figures of the last batch of each epoch, for the history, the progress line and the live log; and collapse.

    Args:
        method: in training.
        compute: device and precision.
        live: takes a row an epoch.
        label: names the training in messages.
        on_collapse: `stop` or `warn`.
        work: the folder of the checkpoints, for the message.
        watching: the watches of the run; None for none.
    """

    def __init__(
        self,
        method: Method,
        compute: Compute,
        live: LiveLog,
        label: str,
        on_collapse: str,
        work: Path,
        watching: Watching | None = None,
    ) -> None:
        super().__init__()
        self.watching = watching
        self.method, self.compute, self.live, self.label = method, compute, live, label
        self.on_collapse, self.work = on_collapse, work
        self.state = {"start": {}, "failed": 0, "collapse": None}

    def start(self, step: int) -> None:
        """Let the watches look before the first step."""
        if self.watching is not None:
            self.watching.start(step)

    def look(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the own-view share of one batch, and let the watches look."""
        if self.watching is not None:
            self.watching.end_epoch()
        parted = any(is_part(weight) for weight in self.method.backbone.parameters())
        if not batch.world.first and not parted:  # where each holds a part of the weights, all must call the backbone
            return {}
        found = own_view_found(self.method.backbone, batch.views, self.compute)
        return found if batch.world.first else {}

    def inspect(self, seen: dict[str, Tensor], logs: dict[str, Tensor]) -> tuple[dict[str, float], dict[str, float]]:
        """Compute the figures of one batch; its own-view share is shown and not kept."""
        kept = figures(logs)
        own = {name: float(value) for name, value in seen.items()}
        return kept, own | {name: kept[name] for name in SHOWN if name in kept}

    def log(self, epoch: int, figures: dict[str, float]) -> None:
        """Hand the figures to the live log."""
        self.live(epoch, figures)

    def begin(self, logs: dict[str, Tensor]) -> None:
        """Remember the figures of the untrained network, with which later ones are compared."""
        found = judged(logs, "clusters" in self.method.needs)
        self.state["start"] = {name: value for name, value in found.items() if math.isfinite(value)}

    def may_save(self, logs: dict[str, Tensor], step: int, steps: int) -> bool:
        """Judge a batch by the rule of collapse.py; a state whose check fails is not saved, unless the user wants it.

        Raises:
            TrainingError: the training has collapsed, and `on_collapse` is `stop`.
        """
        if self.state["collapse"] is not None:
            return True
        found = failure(judged(logs, "clusters" in self.method.needs), self.state["start"])
        judges = step + 1 >= max(FIRST_STEP, BEGIN * steps)
        self.state["failed"] = self.state["failed"] + 1 if found and judges else 0
        if not (self.state["failed"] >= IN_A_ROW or (self.state["failed"] and step + 1 == steps)):
            return found is None or self.on_collapse == "warn"
        where = f"{self.label}, step {step} of {steps}"
        if self.on_collapse == "stop":
            raise TrainingError("the training has collapsed", where=where, found=found, fix=self._advice())
        self.state["collapse"] = {"step": step, "found": found}
        print(f"warning: the training has collapsed ({where}): {found}. It goes on.", file=sys.stderr, flush=True)
        return True

    def _advice(self) -> str:
        """Say what to do about a collapse, and where the last good checkpoint is."""
        newest = newest_checkpoint(self.work)
        good = f"The last good checkpoint is {newest}." if newest else "There is no checkpoint from before."
        return f"Change the method's parameters, or set train.on_collapse to warn to go on all the same. {good}"


def figures(logs: dict[str, Tensor]) -> dict[str, float]:
    """Turn a method's logs into numbers; vectors (B, d) become their standard deviation and effective rank.

    What is not finite is left out: the history has an empty cell there.
    """
    found = {name: float(value.detach()) for name, value in logs.items() if name not in PREFIXES}
    for name, (spread, rank) in PREFIXES.items():
        if name in logs:
            vectors_Bd = logs[name].detach().float().cpu()
            if vectors_Bd.isfinite().all():
                found |= {spread: feature_std(vectors_Bd), rank: rankme(vectors_Bd)}
    return {name: value for name, value in found.items() if math.isfinite(value)}


@torch.no_grad()
def own_view_found(backbone: nn.Module, views: list[Tensor], compute: Compute) -> dict[str, Tensor]:
    """Compute the share of images whose first view lies nearest, by cosine, to their own second view.

    It is 1/n at chance, and 1 when the views of an image stay together and images apart. This is a label-free
    substitute for the usual online kNN accuracy, which would bring labels into pretraining. For display only: nothing
    is drawn and nothing changes, since running statistics are read and not updated.

    Args:
        backbone: the network in training; the mode of each of its modules is left as it was.
        views: (B, C, S, S) each, of the same images; the first images of the batch are enough.
        compute: device and precision.

    Returns:
        `own_view`, a scalar on the device; empty for methods whose first two views are not alike.
    """
    if len(views) < 2 or views[0].shape != views[1].shape:
        return {}
    with in_evaluation(backbone), compute.autocast():
        both = backbone(torch.cat([view[:WATCHED] for view in views[:2]])).float()
    first, second = F.normalize(both, dim=1).chunk(2)
    nearest = (first @ second.T).argmax(dim=1)
    return {"own_view": (nearest == torch.arange(len(first), device=nearest.device)).float().mean()}
