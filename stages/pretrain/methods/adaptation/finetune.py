"""`finetune`: the whole network goes on learning, from labels, all of them or few.

Source: Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", ICML 2020, appendix B.5.

Idea: a linear layer of zeros on the pretrained backbone, and cross entropy through both. `freeze` keeps the lowest
layers as they are and `layer_decay` gives lower layers lower rates, so that few labels change little.

Deviations: the learning rate is the run's and is not chosen on val (`reprise sweep` compares rates); crops and colours
are those of `train.views` at this run's own strength; gradients are cut to length 5.

Checked by: tests/stages/pretrain/test_adapt.py

Shape legend: B batch, d features, K classes.
"""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from reprise.config.params import meaning
from stages.pretrain.method import Batch
from stages.pretrain.strategy import Strategy, StrategyParams, images_of


class FinetuneParams(StrategyParams):
    """Parameters of `finetune`."""

    label_smoothing: Annotated[
        float, Field(ge=0, lt=1), meaning("This share of the target is spread over all classes.")
    ] = 0.0


class Finetune(Strategy):
    """Cross entropy of a linear classifier, through the backbone."""

    Params = FinetuneParams
    capturable = True
    params: FinetuneParams

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Average the cross entropy over the batch, whose images all have a label."""
        features_Bd = self.backbone(images_of(batch.views))
        logits_BK = self.classifier(features_Bd).float()
        loss = F.cross_entropy(logits_BK, batch.clusters, label_smoothing=self.params.label_smoothing)
        return loss, {"features": features_Bd}
