"""`dcl`: decoupled contrastive learning, SimCLR without the positive in the denominator.

Source: Yeh, Hong, Hsu, Liu, Chen, LeCun, "Decoupled Contrastive Learning", ECCV 2022. Checked against a third
party's code, raminnakhli/Decoupled-Contrastive-Learning, which masks with a large number instead of minus infinity.

Idea: in NT-Xent an easy positive shrinks the gradient of all negatives. Taking it out of the denominator removes that
coupling, so that small batches and few epochs suffice. The weighted form (DCLW) gives far positives more weight by a
von Mises-Fisher factor 2 - exp(z1 . z2 / sigma) / mean of these, which gets no gradient here (the paper does not say).

Deviations: none known in the loss. `recipe: paper_optimizer` has no views: the paper's were not checked against code of
its authors. Widths of the paper: those of SimCLR.

Shape legend: B batch, d projection.

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
from reprise.objectives.precision import full_precision
from stages.pretrain.method import Batch, Context, Method, embed_views
from stages.pretrain.params import HiddenWidth, Layers, OptimizerRecipeParams, OutputWidth, Temperature


class DCLParams(OptimizerRecipeParams):
    """Parameters of `dcl`."""

    PAPER: ClassVar = {
        "optimizer": "sgd", "optimizer_momentum": 0.9, "nesterov": False,
        "learning_rate": 0.03, "learning_rate_scaling": "linear", "warmup_epochs": 0, "warmup_start": 0.0,
        "schedule": {"name": "cosine", "end": 0.0}, "schedule_stretch": 1.0, "clip_norm": 0.0, "weight_decay": 1e-4,
    }  # fmt: skip
    temperature: Temperature = 0.1
    weighted: Annotated[bool, meaning("Positives that lie far apart weigh more (DCLW).")] = False
    sigma: Annotated[float, Field(gt=0, le=10), meaning("The weights of DCLW have this temperature.")] = 0.5
    hidden: HiddenWidth = 128
    output: OutputWidth = 64
    layers: Layers = 3


@full_precision
def decoupled_loss(first: Tensor, second: Tensor, temperature: float, sigma: float | None = None) -> Tensor:
    """Equation 6 (7 with `sigma`): mean over 2B views of -w s(i, p) + log sum over other images' views of exp s(i, k).

    Args:
        first, second: (B, d) projections, not normalised.

    Returns:
        A scalar, which may be negative. A batch of one has no other images: only the positive term remains.
    """
    count = len(first)
    z1, z2 = F.normalize(first, dim=1), F.normalize(second, dim=1)
    z = torch.cat([z1, z2])
    positive = (z1 * z2).sum(dim=1)
    weight = torch.ones_like(positive)
    if sigma is not None:
        weight = 2.0 - count * torch.softmax(positive.detach() / sigma, dim=0)
    attraction = -(weight * positive).mean() / temperature
    if count == 1:
        return attraction
    same_image = torch.eye(count, dtype=torch.bool, device=z.device).repeat(2, 2)
    similarity = (z @ z.T / temperature).masked_fill(same_image, float("-inf"))
    return attraction + torch.logsumexp(similarity, dim=1).mean()


class DCL(Method):
    """Backbone, projector, decoupled loss of the two views."""

    Params = DCLParams
    modalities = (IMAGE, VOLUME)
    capturable = True
    smallest_batch = 2
    params: DCLParams
    projector: Projector

    def __init__(self, backbone: nn.Module, params: DCLParams, context: Context) -> None:
        super().__init__(backbone, params, context)
        self.projector = Projector([backbone.num_features, *[params.hidden] * (params.layers - 1), params.output])

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Embed both views in one pass."""
        features_2Bd = embed_views(self.backbone, batch.views)
        first, second = self.projector(features_2Bd).chunk(2)
        sigma = self.params.sigma if self.params.weighted else None
        loss = decoupled_loss(first, second, self.params.temperature, sigma)
        return loss, {"features": features_2Bd[: len(first)], "projections": first}
