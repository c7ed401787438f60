"""What is looked at when an epoch ends: spread and rank of the features, and whether images find their own view.

Features that shrink to a point, or to a line, tell of collapse while it happens. Nothing here changes the training.

Shape legend: B batch, d features.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reprise.measures.spectrum import feature_std, rankme
from reprise.runtime.device import Compute
from reprise.training.fit import Observer
from stages.pretrain.live import LiveLog
from stages.pretrain.method import Batch

WATCHED = 64  # images that are embedded once more at the end of an epoch
COLLAPSE = ("feature_std", "rankme")


class Watch(Observer):
    """Figures of the last batch of each epoch, for the history, the progress line and the live log.

    Args:
        backbone: the network in training.
        compute: device and precision.
        live: takes a row an epoch.
    """

    def __init__(self, backbone: nn.Module, compute: Compute, live: LiveLog) -> None:
        self.backbone, self.compute, self.live = backbone, compute, live

    def inspect(self, batch: Batch, logs: dict[str, Tensor]) -> tuple[dict[str, float], dict[str, float]]:
        """Compute the figures of one batch; its own-view share is shown and not kept."""
        kept = figures(logs)
        own = own_view_found(self.backbone, batch.views, self.compute)
        return kept, own | {name: kept[name] for name in COLLAPSE if name in kept}

    def log(self, epoch: int, figures: dict[str, float]) -> None:
        """Hand the figures to the live log."""
        self.live(epoch, figures)


def figures(logs: dict[str, Tensor]) -> dict[str, float]:
    """Turn a method's logs into numbers; `features` (B, d) become their standard deviation and effective rank."""
    found = {name: float(value.detach()) for name, value in logs.items() if name != "features"}
    if "features" in logs:
        features_Bd = logs["features"].detach().float().cpu()
        found |= {"feature_std": feature_std(features_Bd), "rankme": rankme(features_Bd)}
    return found


@torch.no_grad()
def own_view_found(backbone: nn.Module, views: list[Tensor], compute: Compute) -> dict[str, float]:
    """Compute the share of images whose first view lies nearest, by cosine, to their own second view.

    It is 1/n at chance, and 1 when the views of an image stay together and images apart. This is a label-free
    substitute for the usual online kNN accuracy, which would bring labels into pretraining. For display only: nothing
    is drawn and nothing changes, since running statistics are read and not updated.

    Args:
        backbone: the network in training; the mode of each of its modules is left as it was.
        views: (B, C, S, S) each, of the same images; the first images of the batch are enough.
        compute: device and precision.

    Returns:
        `own_view`; empty for methods whose first two views are not alike.
    """
    if len(views) < 2 or views[0].shape != views[1].shape:
        return {}
    modes = {module: module.training for module in backbone.modules()}
    backbone.eval()
    with compute.autocast():
        both = backbone(torch.cat([view[:WATCHED] for view in views[:2]])).float()
    for module, mode in modes.items():
        module.training = mode  # not train(), which would also switch modules that a method holds in evaluation mode
    first, second = F.normalize(both, dim=1).chunk(2)
    nearest = (first @ second.T).argmax(dim=1)
    return {"own_view": float((nearest == torch.arange(len(first), device=nearest.device)).float().mean())}
