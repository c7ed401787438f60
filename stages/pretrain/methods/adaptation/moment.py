"""`moment`: fine-tuning through the second moments of local features, beside their mean.

Source: Gao et al., "Tuning Pre-trained Model via Moment Probing", ICCV 2023; reprise/networks/moments.py has the head.

Idea: a linear layer on pooled features only sees their mean, so fine-tuning through it may throw away how channels vary
together over the places of an image. Here the loss reads cross-covariances between projected channels as well.

Deviations: the backbone learns too (the paper keeps it and recalibrates a small part of it), because probes see the
backbone and not the head; `freeze` keeps its lower layers. Local features are standardised by the statistics of the
batch. Crops and colours are those of `train.views`.

Checked by: tests/stages/pretrain/test_adapt.py

Shape legend: B batch, D dimensions of a local feature, L places, d features, K classes.
"""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from reprise.config.params import meaning
from reprise.networks.moments import MomentHead
from stages.pretrain.method import Batch, Context
from stages.pretrain.parts.regions import wide_places
from stages.pretrain.strategy import Strategy, StrategyParams, images_of


class MomentParams(StrategyParams):
    """Parameters of `moment`."""

    moment_heads: Annotated[
        int, Field(ge=2, le=64), meaning("Local features are projected to this many heads.", "heads")
    ] = 4
    moment_width: Annotated[int, Field(ge=7, le=1024), meaning("Each head has this width.", "units")] = 32


class MomentClassifier(nn.Module):
    """Standardise local features, and read their mean and second moments: (B, L, D) -> (B, K)."""

    def __init__(self, dimensions: int, classes: int, heads: int, width: int) -> None:
        super().__init__()
        self.widths = [dimensions, classes]
        self.norm = nn.BatchNorm1d(dimensions, affine=False)
        self.head = MomentHead(dimensions, classes, heads, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Compute the logits."""
        return self.head(self.norm(tokens.flatten(0, 1)).view_as(tokens))


class Moment(Strategy):
    """Cross entropy of a head on local features, through the backbone."""

    Params = MomentParams
    chunkable = False  # local features come from a part of the backbone
    params: MomentParams

    def build_classifier(self, backbone: nn.Module, context: Context) -> nn.Module:
        """Build the head on local features."""
        width, params = int(backbone.num_features), self.params
        return MomentClassifier(width, max(1, context.clusters), params.moment_heads, params.moment_width)

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Average the cross entropy over the batch; the mean of the local features is watched for collapse.

        Raises:
            TrainingError: the backbone has no local features, or they are not as wide as its features.
        """
        places = wide_places(self.backbone, images_of(batch.views), self.classifier.widths[0], "moment")
        tokens_BLD = batch.whole(places.flatten(2).transpose(1, 2))
        logits_BK = self.classifier(tokens_BLD).float()
        return F.cross_entropy(logits_BK, batch.clusters), {"features": tokens_BLD.mean(dim=1)}
