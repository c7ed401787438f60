"""`adversarial`: fine-tuning on the small changes of each image that hurt most.

Source: Madry, Makelov, Schmidt, Tsipras, Vladu, "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR
2018.

Idea: the loss is that of the worst image within `epsilon` of each, found by projected gradient ascent on the cross
entropy from a random start.

Deviations: the network is in evaluation mode while the change is sought, so that its statistics are those of the images
that it learns from; crops and colours are those of `train.views`; it starts from the backbone of another run.

Checked by: tests/stages/pretrain/test_adapt.py

Shape legend: B batch, C channels, S side in pixels, d features, K classes.
"""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from reprise.config.params import meaning
from reprise.networks.state import in_evaluation
from reprise.objectives.ascent import ascend
from stages.pretrain.method import Batch, Context
from stages.pretrain.strategy import Strategy, StrategyParams, images_of


class AdversarialParams(StrategyParams):
    """Parameters of `adversarial`."""

    epsilon: Annotated[float, Field(gt=0, le=1), meaning("A channel, between 0 and 1, changes by at most this.")] = (
        4 / 255
    )
    steps: Annotated[
        int, Field(ge=1, le=1000), meaning("The ascent takes this many steps, each 2.5 epsilon / steps long.", "steps")
    ] = 3


class Adversarial(Strategy):
    """Cross entropy of the changed images, through the backbone."""

    Params = AdversarialParams
    params: AdversarialParams
    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, params: AdversarialParams, context: Context) -> None:
        super().__init__(backbone, params, context)
        self.register_buffer("mean", torch.tensor(context.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(context.std).view(1, -1, 1, 1), persistent=False)

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Change the images, then average the cross entropy over them."""
        changed = self.changed(images_of(batch.views), batch)
        features_Bd = self.backbone(changed)
        return F.cross_entropy(self.classifier(features_Bd).float(), batch.clusters), {"features": features_Bd}

    def changed(self, views: Tensor, batch: Batch) -> Tensor:
        """Return the images within `epsilon` that the classifier gets most wrong: normalised, (b, C, S, S)."""
        pixels, epsilon = (views * self.std + self.mean).clamp(0, 1), self.params.epsilon

        def loss(x: Tensor) -> Tensor:
            logits = self.classifier(self.backbone((x - self.mean) / self.std)).float()
            return F.cross_entropy(logits, batch.clusters, reduction="sum")

        noise = batch.own(torch.rand_like(pixels if batch.world.size == 1 else places_for(pixels, batch.images)))
        start = (pixels + epsilon * (2 * noise - 1)).clamp(0, 1)
        with in_evaluation(self):
            found = ascend(loss, pixels, start, epsilon, self.params.steps)
        return views if found is None else (found - self.mean) / self.std


def places_for(x: Tensor, images: int) -> Tensor:
    """Make room for so many images that lie in memory as these do, so that draws for them come in the same order."""
    last = torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    return torch.empty((images, *x.shape[1:]), dtype=x.dtype, device=x.device, memory_format=last)
