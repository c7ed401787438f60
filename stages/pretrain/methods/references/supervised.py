"""`supervised`: cross entropy on the run's label set, the ceiling of every comparison.

With `labels: truth` it sees the true labels of the training split; with a mined label set it becomes the
"classify the clusters" baseline (Caron et al. 2018 without re-clustering). One random view an image, so that
images seen are equal to the other runs; crops are half of SimCLR's.

Shape legend: B batch, d features, K classes.

Source: Szegedy et al. 2016 (smoothed labels).

Checked by: tests/stages/pretrain/test_golden.py; docs/measurements/results.md; docs/measurements/worth-it.md.
"""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from reprise.config.params import meaning
from reprise.media.lookup import IMAGE, VOLUME
from stages.pretrain.method import Batch, Context, Method, embed_views
from stages.pretrain.params import MethodParams


class SupervisedParams(MethodParams):
    """Parameters of `supervised`."""

    label_smoothing: Annotated[
        float, Field(ge=0, lt=1), meaning("This share of the target is spread over all classes.")
    ] = 0.0


class Supervised(Method):
    """A linear classifier on the backbone; images without a label are left out of the loss."""

    Params = SupervisedParams
    modalities = (IMAGE, VOLUME)
    capturable = True
    views = 1
    needs = ("clusters",)
    params: SupervisedParams

    def __init__(self, backbone: nn.Module, params: SupervisedParams, context: Context) -> None:
        super().__init__(backbone, params, context)
        self.classifier = nn.Linear(backbone.num_features, context.clusters)

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Average the cross entropy over the labelled images of the batch; 0 if it has none."""
        features_Bd = embed_views(self.backbone, batch.views)
        logits_BK = self.classifier(features_Bd).float()
        labelled = batch.clusters >= 0
        total = F.cross_entropy(
            logits_BK, batch.clusters.clamp(min=0), reduction="none", label_smoothing=self.params.label_smoothing
        )
        loss = (total * labelled).sum() / labelled.sum().clamp(min=1)
        return loss, {"features": features_Bd}
