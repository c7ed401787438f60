"""`triplet`: an image is nearer to its partner than to others, by a margin.

Source: Wang, He, Gupta, "Transitive Invariance for Self-Supervised Visual Representation Learning", ICCV 2017. No code
of the authors was found.

Idea: mined pairs show changes that no change of a view makes (another object of the kind, another moment). The loss
asks for an order and not for equal features. With the cosine distance d = 1 - cos, for each image x of a batch, its
partner p(x) and its negatives:

    loss = sum over x of  w_x mean over its negatives n of  max(0, d(x, p(x)) - d(x, n) + margin)  /  sum over x of w_x

First all other images of the batch are negatives, which is the expectation of a negative drawn at random. From a
share of the training on only the nearest ones are: hard negatives. An image that stands in the batch twice is never a
negative of itself or of its partner.

Deviations: the paper trains a VGG-16 with the loss of context prediction beside this one, here the ranking stands alone
and a projector takes it; a pair counts as much as its weight to the power `power`, 0 as in the paper, where all count
alike; the number of hard negatives is that of Wang and Gupta 2015, on which the paper builds. These values are from
memory and could not be checked against code.

Checked by: tests/stages/pretrain/methods/losses/test_pair_losses.py; tests/stages/pretrain/inputs/test_pairs.py.

Shape legend: B images in a batch, partners included, d features, z projection.
"""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from reprise.config.params import meaning
from reprise.networks.heads import Projector
from reprise.objectives.precision import full_precision
from stages.pretrain.method import Batch, Context, Method
from stages.pretrain.params import HiddenWidth, Layers, MethodParams, OutputWidth
from stages.pretrain.parts.pairs import others, weighted_mean


class TripletParams(MethodParams):
    """Parameters of `triplet`."""

    margin: Annotated[
        float,
        Field(gt=0, le=2),
        meaning("Other images should be further away than the partner by this cosine distance."),
    ] = 0.5
    hardest: Annotated[
        int, Field(ge=1, le=1000), meaning("So many nearest images are the hard negatives of an image.", "images")
    ] = 4
    hard_after: Annotated[
        float,
        Field(ge=0, le=1),
        meaning("From this share of the training on only hard negatives count; before, all other images do."),
    ] = 0.3
    power: Annotated[
        float,
        Field(ge=0, le=10),
        meaning("A pair counts as much as its weight to this power; 0 lets all pairs count alike."),
    ] = 0.0
    hidden: HiddenWidth = 128
    output: OutputWidth = 64
    layers: Layers = 2


@full_precision
def triplet_loss(
    projections: Tensor,
    rows: Tensor,
    partner: Tensor,
    weights: Tensor,
    margin: float,
    hardest: int | None = None,
    power: float = 0.0,
) -> Tensor:
    """Ask that images lie nearer to their partners than to their negatives.

    Args:
        projections: (B, z), not normalised.
        rows: (B,) int64, which image each one is.
        partner: (B,) int64, where the partner of each one stands.
        weights: (B,) in (0, 1], of the pairs.
        margin: above 0.
        hardest: negatives of an image, the nearest ones; None takes all.
        power: of the weights, at least 0.

    Returns:
        A scalar; images without a negative add 0.
    """
    z = F.normalize(projections, dim=1)
    cosine_BB = z @ z.T
    negative_BB = others(rows, partner)
    positive_B = (z * z[partner]).sum(dim=1)
    # d(x, p) - d(x, n) = cos(x, n) - cos(x, p)
    hinge_BB = F.relu(cosine_BB - positive_B[:, None] + margin)
    if hardest is not None and hardest < len(z):
        nearest = cosine_BB.detach().masked_fill(~negative_BB, float("-inf")).topk(hardest, dim=1).indices
        negative_BB = negative_BB & torch.zeros_like(negative_BB).scatter(1, nearest, True)
    each_B = (hinge_BB * negative_BB).sum(dim=1) / negative_BB.sum(dim=1).clamp(min=1)
    return weighted_mean(each_B, weights, power)


class Triplet(Method):
    """A backbone and a projector; a ranking loss on an image, its partner and the other images of the batch."""

    Params = TripletParams
    views = 1
    capturable = True
    needs_pairs = True
    smallest_batch = 4
    params: TripletParams
    projector: Projector
    progress: Tensor

    def __init__(self, backbone: nn.Module, params: TripletParams, context: Context) -> None:
        super().__init__(backbone, params, context)
        self.projector = Projector([backbone.num_features, *[params.hidden] * (params.layers - 1), params.output])
        self.register_buffer("progress", torch.zeros(()))  # in checkpoints, so that a resumed run knows it

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Embed images and partners in one pass; a tensor chooses the negatives, so that a GPU may record the step."""
        features_Bd = self.backbone(batch.views[0])
        projections_Bz = self.projector(features_Bd)
        shared = (projections_Bz, batch.rows, batch.partner, batch.weights, self.params.margin)
        every = triplet_loss(*shared, power=self.params.power)
        hard = triplet_loss(*shared, hardest=self.params.hardest, power=self.params.power)
        loss = torch.where(self.progress < self.params.hard_after, every, hard)
        return loss, {"features": features_Bd, "projections": projections_Bz}

    def after_step(self, progress: float) -> None:
        """Remember how far training has come."""
        self.progress.fill_(progress)
