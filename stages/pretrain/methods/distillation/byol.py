"""`byol`: bootstrap your own latent; predict a slow copy of yourself, no negatives.

Source: Grill et al., "Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning", NeurIPS 2020. Authors'
code: google-deepmind/deepmind-research, byol.

Idea: an online network predicts, from one view, the projection that a target network gives the other view; the target
is a moving average of the online network. The predictor and the average keep it from collapsing.

Deviations: both views are drawn alike, where the paper blurs one always and solarises the other sometimes. The
optimiser is `train`'s unless `recipe: paper` asks for the paper's (LARS, batch 4096). Widths of the paper: 4096 hidden,
256 out.

Shape legend: B batch, d features.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from reprise.networks.heads import Projector
from reprise.objectives.precision import full_precision
from stages.pretrain.method import Batch, Context
from stages.pretrain.parts.teacher import TeacherMethod, TeacherParams


class BYOLParams(TeacherParams):
    """hidden, output: of projector and predictor. decay_predictor: whether weight decay reaches the predictor.

    momentum starts at 0.996 in the paper's 1000 epochs, at 0.99 for 300 and 0.97 for shorter ones (appendix).
    """

    PAPER: ClassVar = {"optimizer": "lars", "learning_rate": 0.2, "weight_decay": 1.5e-6, "warmup_epochs": 10}
    hidden: Annotated[int, Field(ge=1, le=65536)] = 256
    output: Annotated[int, Field(ge=1, le=65536)] = 128
    decay_predictor: bool = True


@full_precision
def byol_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Equation 2: mean over (B, d) rows of |p - z|^2 with both of length one, which is 2 - 2 cos; within [0, 4]."""
    return (2.0 - 2.0 * F.cosine_similarity(prediction, target, dim=1)).mean()


class BYOL(TeacherMethod):
    """Symmetric: each view predicts the other's target; the two losses are added."""

    Params = BYOLParams
    smallest_batch = 2
    params: BYOLParams
    projector: Projector

    def __init__(self, backbone: nn.Module, params: BYOLParams, context: Context) -> None:
        super().__init__(backbone, params, context)
        self.projector = Projector([backbone.num_features, params.hidden, params.output])
        self.predictor = Projector([params.output, params.hidden, params.output])
        self.add_teacher("backbone", "projector")

    def parameter_groups(self) -> list[dict]:
        """The predictor apart where decay should not reach it."""
        return [] if self.params.decay_predictor else [{"params": list(self.predictor.parameters()), "weight_decay": 0}]

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Equation 3: the loss of both directions. Each view has batch statistics of its own, as in the paper."""
        features = [self.backbone(view) for view in batch.views]
        p1, p2 = (self.predictor(self.projector(h)) for h in features)
        z1, z2 = (self.taught(view) for view in batch.views)
        return byol_loss(p1, z2) + byol_loss(p2, z1), {"features": features[0]}
