"""`nnclr`: contrast with the nearest neighbour of the other view instead of the view itself.

Source: Dwibedi, Aytar, Tompson, Sermanet, Zisserman, "With a Little Help from My Friends: Nearest-Neighbor Contrastive
Learning of Visual Representations", ICCV 2021. No code by the authors was read.

Idea: a queue of earlier projections serves as a support set; the positive of a view is the entry nearest to the other
view of the image, so that different images of one kind are pulled together.

The projector's last layer is normalised over the batch like its others, as the paper asks for ("all fully-connected
layers are followed by batch-normalization"), but not followed by ReLU.

Deviations: the support set holds no more vectors than there are training images and nothing random: while it is empty,
a view is its own neighbour. The optimiser is `train`'s unless `recipe: paper_optimizer` asks for LARS; the paper's
views could not be checked. Widths of the paper: 2048-2048-256, predictor 4096, queue 98304.

Shape legend: B batch, d projection, Q support set.

Checked by: tests/stages/pretrain/methods/losses/test_contrastive_losses.py;
tests/stages/pretrain/methods/test_recipes.py.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from reprise.config.params import meaning
from reprise.media.lookup import IMAGE, VOLUME
from reprise.networks.heads import Projector
from reprise.objectives.info_nce import in_batch_info_nce
from reprise.objectives.precision import full_precision
from stages.pretrain.method import Batch, Context, Method
from stages.pretrain.params import HiddenWidth, Layers, OptimizerRecipeParams, OutputWidth, Temperature
from stages.pretrain.parts.queue import Queue, queue_length


class NNCLRParams(OptimizerRecipeParams):
    """Parameters of `nnclr`."""

    PAPER: ClassVar = {  # section 4.1
        "optimizer": "lars", "optimizer_momentum": 0.9, "nesterov": False, "lars": {"trust": 0.001},
        "learning_rate": 0.3, "learning_rate_scaling": "linear", "warmup_epochs": 10, "warmup_start": 0.0,
        "schedule": {"name": "cosine", "end": 0.0}, "schedule_stretch": 1.0, "clip_norm": 0.0,
        "weight_decay": 1e-6, "decay_vectors": False,
    }  # fmt: skip
    temperature: Temperature = 0.1
    queue: Annotated[
        int,
        Field(ge=1, le=10_000_000),
        meaning(
            "The support set, among which nearest neighbours are looked for, holds this many projections.",
            "projections",
        ),
    ] = 98304
    hidden: HiddenWidth = 256
    output: OutputWidth = 128
    layers: Layers = 3


@torch.no_grad()
@full_precision
def nearest(z: Tensor, support: Tensor) -> Tensor:
    """Equation 2: for each row of (B, d) the most similar row of (Q, d), by cosine; itself where Q is 0."""
    z, support = F.normalize(z, dim=1), F.normalize(support, dim=1)
    return support[(z @ support.T).argmax(dim=1)] if len(support) else z


class NNCLR(Method):
    """Equation 3, both ways: neighbours of one view against predictions of the other."""

    Params = NNCLRParams
    modalities = (IMAGE, VOLUME)
    smallest_batch = 2
    params: NNCLRParams
    projector: Projector

    def __init__(self, backbone: nn.Module, params: NNCLRParams, context: Context) -> None:
        super().__init__(backbone, params, context)
        self.projector = Projector([backbone.num_features, *[params.hidden] * (params.layers - 1), params.output])
        self.norm = nn.BatchNorm1d(params.output)
        self.predictor = Projector([params.output, params.hidden, params.output])
        self.queue = Queue(queue_length(self, params.queue), params.output)

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Compare neighbours and predictions; the first view's projections then enter the support set."""
        features = [self.backbone(view) for view in batch.views]
        z1, z2 = (self.norm(self.projector(h)) for h in features)
        p1, p2 = self.predictor(z1), self.predictor(z2)
        support, temperature = self.queue.stored(), self.params.temperature
        loss = (
            in_batch_info_nce(nearest(z1, support), p2, temperature)
            + in_batch_info_nce(nearest(z2, support), p1, temperature)
        ) / 2.0
        self.queue.push(F.normalize(z1.detach().float(), dim=1))
        return loss, {"features": features[0], "projections": z1}
