"""`simsiam`: two views, a predictor and a stopped gradient; neither negatives nor a moving average.

Source: Chen, He, "Exploring Simple Siamese Representation Learning", CVPR 2021. Authors' code:
facebookresearch/simsiam.

Idea: BYOL works without its moving average as long as the target branch gets no gradient. The predictor learns at a
constant rate: its decay makes it lag behind (section 4.2 and appendix).

Deviations: none known in the method; the release's learning rate falls once an epoch, here with every step. Widths of
the paper: 2048 throughout with a predictor of 512 hidden; three projector layers (two for its CIFAR-10 experiment,
whose base rate is 0.03 and decay 5e-4).

Shape legend: B batch, d features.

Checked by: tests/stages/pretrain/methods/losses/test_two_view_losses.py; tests/stages/pretrain/methods/test_recipes.py.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from reprise.config.params import meaning
from reprise.media.lookup import IMAGE, VOLUME
from reprise.networks.heads import Projector
from reprise.objectives.precision import full_precision
from stages.pretrain.method import Batch, Context, Method
from stages.pretrain.params import HiddenWidth, Layers, OutputWidth, RecipeParams
from stages.pretrain.parts import paper_views
from stages.pretrain.parts.batch_norm import OutputNorm


class SimSiamParams(RecipeParams):
    """Parameters of `simsiam`."""

    PAPER: ClassVar = {  # section 4 and the release, whose optimiser decays all parameters
        "optimizer": "sgd", "optimizer_momentum": 0.9, "nesterov": False,
        "learning_rate": 0.05, "learning_rate_scaling": "linear", "warmup_epochs": 0, "warmup_start": 0.0,
        "schedule": {"name": "cosine", "end": 0.0}, "schedule_stretch": 1.0, "clip_norm": 0.0,
        "weight_decay": 1e-4, "decay_vectors": True, "views": paper_views.MOCO_V2, "constant_predictor_rate": True,
    }  # fmt: skip
    hidden: HiddenWidth = 256
    output: OutputWidth = 256
    layers: Layers = 3
    bottleneck: Annotated[
        int,
        Field(ge=1, le=65536),
        meaning("The predictor's hidden layer has this width (paper: a quarter of `output`).", "units"),
    ] = 64
    constant_predictor_rate: Annotated[bool, meaning("The predictor's learning rate neither warms up nor falls.")] = (
        True
    )


@full_precision
def simsiam_loss(p1: Tensor, p2: Tensor, z1: Tensor, z2: Tensor) -> Tensor:
    """Equations 1 and 4: -cos(p1, stop z2) / 2 - cos(p2, stop z1) / 2, mean over (B, d) rows; within [-1, 1]."""
    first = F.cosine_similarity(p1, z2.detach(), dim=1).mean()
    second = F.cosine_similarity(p2, z1.detach(), dim=1).mean()
    return -(first + second) / 2.0


class SimSiam(Method):
    """Projector with a normalised output, predictor with a bottleneck."""

    Params = SimSiamParams
    modalities = (IMAGE, VOLUME)
    capturable = True
    smallest_batch = 2
    params: SimSiamParams
    projector: Projector

    def __init__(self, backbone: nn.Module, params: SimSiamParams, context: Context) -> None:
        super().__init__(backbone, params, context)
        self.projector = Projector([backbone.num_features, *[params.hidden] * (params.layers - 1), params.output])
        self.norm = OutputNorm(params.output)
        self.predictor = Projector([params.output, params.bottleneck, params.output])

    def parameter_groups(self) -> list[dict]:
        """Keep the predictor's learning rate constant; its weights decay like all others."""
        constant = {"params": list(self.predictor.parameters()), "constant_rate": True}
        return [constant] if self.params.constant_predictor_rate else []

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Embed the views separately, as in the paper, so that each has its own batch statistics."""
        features = [self.backbone(view) for view in batch.views]
        z1, z2 = (self.norm(self.projector(h)) for h in features)
        loss = simsiam_loss(self.predictor(z1), self.predictor(z2), z1, z2)
        return loss, {"features": features[0], "projections": z1}
