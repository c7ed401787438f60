"""`moco_v2`: momentum contrast, keys in a queue, negatives without a large batch.

Source: Chen, Fan, Girshick, He, "Improved Baselines with Momentum Contrastive Learning", arXiv 2003.04297, on He et
al., "Momentum Contrast for Unsupervised Visual Representation Learning", CVPR 2020. Authors' code:
facebookresearch/moco.

Idea: a query should be close to the key of the same image and far from the keys of earlier batches. Keys come from a
slowly moving average of the encoder, so that those in the queue stay comparable.

Deviations: no shuffled batch normalisation (it needs several devices); the queue holds no more keys than there are
training images, and only keys, no random vectors before it is full (the first step has no negatives and loss 0).
The paper's queue is 65536, its head 2048-128. The release's learning rate falls once an epoch, here with every step.

Shape legend: B batch, d features.

Checked by: tests/stages/pretrain/methods/losses/test_contrastive_losses.py;
tests/stages/pretrain/methods/test_recipes.py.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from reprise.config.params import meaning
from reprise.media.lookup import IMAGE, VOLUME
from reprise.networks.heads import PlainHead
from reprise.objectives.info_nce import info_nce
from stages.pretrain.method import Batch, Context
from stages.pretrain.params import HiddenWidth, OutputWidth, Temperature
from stages.pretrain.parts import paper_views
from stages.pretrain.parts.queue import Queue, queue_length
from stages.pretrain.parts.teacher import LastMomentum, Momentum, TeacherMethod, TeacherParams


class MoCoV2Params(TeacherParams):
    """Parameters of `moco_v2`.

    Momentum is constant in the paper: 0.999 for 200 epochs of 5,000 steps; a run of a few hundred steps needs less.
    """

    PAPER: ClassVar = {  # the release with --mlp --moco-t 0.2 --aug-plus --cos
        "optimizer": "sgd", "optimizer_momentum": 0.9, "nesterov": False,
        "learning_rate": 0.03, "learning_rate_scaling": "linear", "warmup_epochs": 0, "warmup_start": 0.0,
        "schedule": {"name": "cosine", "end": 0.0}, "schedule_stretch": 1.0, "clip_norm": 0.0,
        "weight_decay": 1e-4, "decay_vectors": True, "views": paper_views.MOCO_V2,
        "momentum": 0.999, "momentum_end": 0.999,
    }  # fmt: skip
    temperature: Temperature = 0.2
    queue: Annotated[
        int, Field(ge=1, le=10_000_000), meaning("This many keys of earlier batches serve as negatives.", "keys")
    ] = 65536
    momentum: Momentum = 0.999
    momentum_end: LastMomentum = 0.999
    hidden: HiddenWidth = 256
    output: OutputWidth = 128


class MoCoV2(TeacherMethod):
    """InfoNCE of the first view's query against the second view's key and the queue."""

    Params = MoCoV2Params
    modalities = (IMAGE, VOLUME)
    params: MoCoV2Params

    def __init__(self, backbone: nn.Module, params: MoCoV2Params, context: Context) -> None:
        super().__init__(backbone, params, context)
        self.head = PlainHead([backbone.num_features, params.hidden, params.output])
        self.queue = Queue(queue_length(self, params.queue), params.output)
        self.add_teacher("backbone", "head")

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Compare queries with keys; the keys enter the queue after they have served as positives."""
        features_Bd = self.backbone(batch.views[0])
        keys = self.taught(batch.views[1])
        queries = self.head(features_Bd)
        loss = info_nce(queries, keys, self.queue.stored(), self.params.temperature)
        self.queue.push(F.normalize(keys.float(), dim=1))
        return loss, {"features": features_Bd, "projections": queries}
