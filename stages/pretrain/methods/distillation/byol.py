"""`byol`: bootstrap your own latent; predict a slow copy of yourself, no negatives.

Source: Grill et al., "Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning", NeurIPS 2020. Authors'
code: google-deepmind/deepmind-research, byol.

Idea: an online network predicts, from one view, the projection that a target network gives the other view; the target
is a moving average of the online network. The predictor and the average keep it from collapsing.

Deviations: optimiser and views are `train`'s, both views drawn alike, unless `recipe: paper` asks for the paper's:
LARS, batch 4096; one view always blurred, the other solarised at times. Widths of the paper: 4096 hidden, 256 out.

Shape legend: B batch, d features.

Checked by: tests/stages/pretrain/methods/losses/test_two_view_losses.py; tests/stages/pretrain/methods/test_recipes.py;
docs/measurements/worth-it.md.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from reprise.config.params import meaning
from reprise.media.lookup import IMAGE, VOLUME
from reprise.networks.heads import Projector
from reprise.objectives.precision import full_precision
from stages.pretrain.method import Batch, Context
from stages.pretrain.params import HiddenWidth, OutputWidth
from stages.pretrain.parts import paper_views
from stages.pretrain.parts.teacher import TeacherMethod, TeacherParams


class BYOLParams(TeacherParams):
    """Parameters of `byol`.

    The paper's momentum starts at 0.996 for 1000 epochs, at 0.99 for 300 and at 0.97 for shorter trainings (appendix).
    """

    PAPER: ClassVar = {  # appendix, for 1000 epochs
        "optimizer": "lars", "optimizer_momentum": 0.9, "nesterov": False, "lars": {"trust": 0.001},
        "learning_rate": 0.2, "learning_rate_scaling": "linear", "warmup_epochs": 10, "warmup_start": 0.0,
        "schedule": {"name": "cosine", "end": 0.0}, "schedule_stretch": 1.0, "clip_norm": 0.0,
        "weight_decay": 1.5e-6, "decay_vectors": False, "views": paper_views.BYOL,
        "momentum": 0.996, "momentum_end": 1.0, "momentum_schedule": "cosine", "decay_predictor": True,
    }  # fmt: skip
    hidden: HiddenWidth = 256
    output: OutputWidth = 128
    decay_predictor: Annotated[bool, meaning("Weight decay reaches the predictor.")] = True


@full_precision
def byol_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Equation 2: mean over (B, d) rows of |p - z|^2 with both of length one, which is 2 - 2 cos; within [0, 4]."""
    return (2.0 - 2.0 * F.cosine_similarity(prediction, target, dim=1)).mean()


class BYOL(TeacherMethod):
    """Symmetric: each view predicts the other's target; the two losses are added."""

    Params = BYOLParams
    modalities = (IMAGE, VOLUME)
    capturable = True
    smallest_batch = 2
    params: BYOLParams
    projector: Projector

    def __init__(self, backbone: nn.Module, params: BYOLParams, context: Context) -> None:
        super().__init__(backbone, params, context)
        self.projector = Projector([backbone.num_features, params.hidden, params.output])
        self.predictor = Projector([params.output, params.hidden, params.output])
        self.add_teacher("backbone", "projector")

    def parameter_groups(self) -> list[dict]:
        """Give the predictor a group of its own where decay should not reach it."""
        return [] if self.params.decay_predictor else [{"params": list(self.predictor.parameters()), "weight_decay": 0}]

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Add the losses of both directions (equation 3); each view has its own batch statistics, as in the paper."""
        features = [self.backbone(view) for view in batch.views]
        projected = [self.projector(h) for h in features]
        p1, p2 = (self.predictor(z) for z in projected)
        z1, z2 = (self.taught(view) for view in batch.views)
        return byol_loss(p1, z2) + byol_loss(p2, z1), {"features": features[0], "projections": projected[0]}
