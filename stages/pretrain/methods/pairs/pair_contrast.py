"""`pair_contrast`: contrast on mined pairs, in which sure pairs count more.

Source: ISR, "Identity-Seeking Self-Supervised Representation Learning for Generalizable Person Re-identification",
ICCV 2023. Authors' code: dcp15/ISR_ICCV2023_Oral holds inference only.

Idea: two images of one thing, found by a miner, replace two views of one image; they differ in ways that no change of a
view makes. Some pairs are wrong, so each weighs as much as the miner trusts it. For a batch of B images, of which each
has its partner p(i) among the others:

    l_i  = -log( exp(z_i . z_p(i) / t) / sum over k of exp(z_i . z_k / t) )
    loss = sum over i of  w_i l_i  /  sum over i of  w_i,       w_i = (weight of the pair) ** power

k runs over p(i) and all images that are neither image i nor its partner: an image may stand in a batch several times,
as an anchor and as the partner of others, and is never a negative of itself or of its partner.

Deviations: the paper's exact weight could not be verified; power = 1 is the gradient of a generalised cross entropy.
`frame_matching` raises its probabilities to a power of its own, which is 1 unless it is changed. The sum is divided by
the weights, so that the learning rate does not depend on how sure a miner is. One view of each image; the paper trains
a Swin transformer.

Checked by: tests/stages/pretrain/methods/losses/test_pair_losses.py; tests/stages/pretrain/inputs/test_pairs.py;
docs/measurements/relations.md.

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
from stages.pretrain.params import HiddenWidth, Layers, MethodParams, OutputWidth, Temperature
from stages.pretrain.parts.pairs import others, weighted_mean


class PairContrastParams(MethodParams):
    """Parameters of `pair_contrast`."""

    temperature: Temperature = 0.2
    power: Annotated[
        float,
        Field(ge=0, le=10),
        meaning("A pair counts as much as its weight to this power; 0 lets all pairs count alike."),
    ] = 1.0
    hidden: HiddenWidth = 128
    output: OutputWidth = 64
    layers: Layers = 3


@full_precision
def pair_contrast_loss(
    projections: Tensor, rows: Tensor, partner: Tensor, weights: Tensor, temperature: float, power: float
) -> Tensor:
    """Compare each image with its partner, against all other images of the batch.

    Args:
        projections: (B, z), not normalised.
        rows: (B,) int64, which image each one is.
        partner: (B,) int64, where the partner of each one stands.
        weights: (B,) in (0, 1], of the pairs.
        temperature: above 0.
        power: of the weights, at least 0.

    Returns:
        A scalar; 0 where a batch holds no negatives.
    """
    z = F.normalize(projections, dim=1)
    place = torch.arange(len(z), device=z.device)
    candidate = others(rows, partner) | (place == partner[:, None])
    similarity = (z @ z.T / temperature).masked_fill(~candidate, float("-inf"))
    each = F.cross_entropy(similarity, partner, reduction="none")
    return weighted_mean(each, weights, power)


class PairContrast(Method):
    """A backbone and a projector; an image and its partner attract each other, as far as the pair is trusted."""

    Params = PairContrastParams
    views = 1
    capturable = True
    needs_pairs = True
    smallest_batch = 4
    params: PairContrastParams
    projector: Projector

    def __init__(self, backbone: nn.Module, params: PairContrastParams, context: Context) -> None:
        super().__init__(backbone, params, context)
        self.projector = Projector([backbone.num_features, *[params.hidden] * (params.layers - 1), params.output])

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Embed images and partners in one pass, and compare their projections."""
        features_Bd = self.backbone(batch.views[0])
        projections_Bz = self.projector(features_Bd)
        own = self.params
        loss = pair_contrast_loss(projections_Bz, batch.rows, batch.partner, batch.weights, own.temperature, own.power)
        return loss, {"features": features_Bd, "projections": projections_Bz}
