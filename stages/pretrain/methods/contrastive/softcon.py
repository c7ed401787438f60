"""`softcon`: momentum contrast, and images that share labels lie as close as their labels agree.

Source: Wang, Albrecht, Zhu, "Multi-Label Guided Soft Contrastive Learning for Efficient Earth Observation Pretraining",
arXiv 2405.20462 (SoftCon). Authors' code: zhu-xlab/softcon, which holds encoders and weights, no training.

Idea: an image often shows several things, so that two images are neither the same nor different. Which of L things an
image i shows is a vector y_i of 0 and 1, and a_ij in [0, 1] says how far y_i and y_j agree. With the query q_i of an
image's first view and the key k_j of a second view, both of length one:

    loss = MoCo v2's + weight * mean over pairs i, j of BCE( sigmoid(scale * q_i . k_j + bias), a_ij )

    a_ij = y_i . y_j / (|y_i| |y_j|)   (`cosine`)     or     |y_i and y_j| / |y_i or y_j|   (`jaccard`)

The vectors are facts of 0 and 1 that the run names in `facts`; without any, the clusters of the run's label set, where
a_ij is 1 for images of one cluster and 0 for others. An image without a label, or one of whose facts is unknown, has no
agreement with any: it takes part in MoCo v2's loss only. At the defaults a similarity of 0.5 means an agreement of 0.5.

Deviations: the paper's loss is known from its abstract and from summaries, not from code; so the form of the agreement,
`scale`, `bias` and `weight` are parameters, and their values are ours. Keys come from the teacher and carry no
gradient; the paper trains on from DINO's weights, which is `from` of a row of `runs` here. Neither its Siamese masking
nor its input layer for more channels is here. MoCo v2's deviations hold: see `moco_v2`.

Shape legend: B batch, d features, L labels.

Checked by: tests/stages/pretrain/methods/losses/test_soft_relation.py; docs/measurements/relations.md.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import Tensor, nn

from reprise.config.errors import TrainingError
from reprise.config.params import meaning
from reprise.media.lookup import IMAGE, VOLUME
from reprise.networks.heads import PlainHead
from reprise.objectives.info_nce import info_nce
from reprise.objectives.soft_relation import Target, label_agreement, soft_relation
from stages.pretrain.method import Batch, Context
from stages.pretrain.params import HiddenWidth, MethodParams, OutputWidth, Temperature
from stages.pretrain.parts.queue import Queue, queue_length
from stages.pretrain.parts.teacher import LastMomentum, Momentum, TeacherMethod, TeacherParams


class SoftConParams(TeacherParams):
    """Parameters of `softcon`."""

    facts: Annotated[
        tuple[str, ...],  # and no list, so that parameters can be compared and kept
        Field(strict=False, max_length=1000),
        meaning("These facts of 0 and 1 say what an image shows; with none, its cluster in the label set does."),
    ] = ()
    target: Annotated[Target, meaning("The labels of two images are compared in this way.")] = "cosine"
    weight: Annotated[
        float, Field(ge=0, le=1000), meaning("The loss on pairs counts as much as this, beside MoCo v2's as 1.")
    ] = 1.0
    scale: Annotated[
        float, Field(gt=0, le=1000), meaning("The logit of a pair grows by this with the similarity of the images.")
    ] = 10.0
    bias: Annotated[
        float, Field(ge=-1000, le=1000), meaning("The logit of a pair is this where the similarity is 0.")
    ] = -5.0
    temperature: Temperature = 0.2
    queue: Annotated[
        int, Field(ge=1, le=10_000_000), meaning("This many keys of earlier batches serve as negatives.", "keys")
    ] = 65536
    momentum: Momentum = 0.999
    momentum_end: LastMomentum = 0.999
    hidden: HiddenWidth = 256
    output: OutputWidth = 128

    @field_validator("facts")
    @classmethod
    def _each_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError("should name each fact once")
        return value


class SoftCon(TeacherMethod):
    """MoCo v2's loss, and a cross entropy between similarities of images and agreements of their labels."""

    Params = SoftConParams
    modalities: ClassVar[tuple[str, ...]] = (IMAGE, VOLUME)
    params: SoftConParams

    def __init__(self, backbone: nn.Module, params: SoftConParams, context: Context) -> None:
        super().__init__(backbone, params, context)
        if not params.facts:
            self.needs = ("clusters",)
        _refuse_unusable(params.facts, context)
        self.head = PlainHead([backbone.num_features, params.hidden, params.output])
        self.queue = Queue(queue_length(self, params.queue), params.output)
        self.add_teacher("backbone", "head")

    @classmethod
    def facts_read(cls, params: MethodParams) -> tuple[str, ...]:
        """Read the facts that the run names."""
        return params.facts if isinstance(params, SoftConParams) else ()

    def labels(self, batch: Batch) -> Tensor:
        """Return what each image shows: (B, L) of 0 and 1, NaN where unknown; no label where it has no cluster."""
        if self.params.facts:
            return torch.stack([batch.fact(name) for name in self.params.facts], dim=1)
        clusters = batch.clusters
        columns = F.one_hot(clusters.clamp(min=0), max(1, self.context.clusters))
        return columns * (clusters >= 0)[:, None].float()

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Compare queries with keys by both losses; the keys enter the queue after they have served."""
        features_Bd = self.backbone(batch.views[0])
        keys = self.taught(batch.views[1])
        queries = self.head(features_Bd)
        instance = info_nce(queries, keys, self.queue.stored(), self.params.temperature)
        agreement_BB, known_B = label_agreement(self.labels(batch), self.params.target)
        soft = soft_relation(queries, keys, agreement_BB, known_B, self.params.scale, self.params.bias)
        self.queue.push(F.normalize(keys.float(), dim=1))
        return instance + self.params.weight * soft, {"features": features_Bd, "projections": queries}


def _refuse_unusable(names: tuple[str, ...], context: Context) -> None:
    """Refuse facts that are no 0 and 1, which are words and numbers of other values, and clusters that are not there.

    Raises:
        TrainingError: saying which.
    """
    if not names and not context.clusters:
        raise TrainingError(
            "nothing says what an image shows",
            where="methods.*.facts",
            found="no facts, and a label set without clusters",
            fix="Name facts of 0 and 1, or let the run use a label set that has clusters.",
        )
    for name in names:
        values = context.facts.get(name)
        if values is None:
            continue  # before training, where only the sizes of the network are wanted
        wrong = "words or texts" if values.dtype == object or values.ndim > 1 else None
        if wrong is None and (other := np.setdiff1d(values[~np.isnan(values)], (0.0, 1.0))).size:
            wrong = f"the value {other[0]:g}"
        if wrong:
            raise TrainingError(
                f"the fact '{name}' does not say whether an image shows something",
                where="methods.*.facts",
                found=wrong,
                fix="Name flags, or numbers that are 0 and 1.",
            )
