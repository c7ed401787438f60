"""`distill`: a student learns the features of a frozen teacher, which the run's row names (`teacher: models/NAME`).

Source: Navaneet et al., "SimReg: Regression as a Simple Yet Effective Tool for Self-supervised Knowledge
Distillation", BMVC 2021 (features after a head); Park, Kim, Lu, Cho, "Relational Knowledge Distillation", CVPR 2019,
equations 4 and 5 (distances between images).

Idea: teacher and student see the same view of an image (Beyer et al., "Knowledge distillation: A good teacher is
patient and consistent", CVPR 2022). A linear head takes the student's features to the teacher's width, and their angle
is made small. The relational form needs no head: distances between the images of a batch, each divided by their mean,
are to be those of the teacher.

Deviations: one linear head instead of a perceptron, and the angle instead of the squared distance of SimReg; the two
losses are added with the weights `cosine` and `relational`, of which one may be 0.

Shape legend: B batch, d features of the student, t features of the teacher.

Checked by: tests/stages/pretrain/methods/losses/test_two_view_losses.py.
"""

from __future__ import annotations

from typing import Annotated, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from reprise.config.errors import TrainingError
from reprise.config.params import meaning
from reprise.objectives.precision import full_precision
from stages.pretrain.method import Batch, Context, Method
from stages.pretrain.params import MethodParams


class DistillParams(MethodParams):
    """Parameters of `distill`."""

    cosine: Annotated[
        float, Field(ge=0), meaning("The angle between the features of student and teacher has this weight.")
    ] = 1.0
    relational: Annotated[
        float, Field(ge=0), meaning("The difference of their distances between images has this weight.")
    ] = 0.0
    teacher_size: Annotated[
        bool, meaning("The teacher sees the views at the side that it was trained at, instead of at image.size.")
    ] = False

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if self.cosine == self.relational == 0:
            raise ValueError("one of cosine and relational must be above 0")
        return self


@full_precision
def cosine_loss(student_Bt: Tensor, teacher_Bt: Tensor) -> Tensor:
    """Mean over the batch of 1 - cos; within [0, 2]."""
    return (1.0 - F.cosine_similarity(student_Bt, teacher_Bt, dim=1)).mean()


@full_precision
def relational_loss(student_Bd: Tensor, teacher_Bt: Tensor) -> Tensor:
    """Huber loss between the distances of all pairs of images, each divided by their mean (equations 4 and 5)."""
    return F.huber_loss(_distances(student_Bd), _distances(teacher_Bt))


def _distances(x: Tensor) -> Tensor:
    """Distances of all pairs, divided by their mean: (B, d) -> (B (B - 1) / 2,)."""
    found = F.pdist(x)
    return found / found.mean().clamp_min(1e-12)


class Distill(Method):
    """One view an image for both; the teacher never learns."""

    Params = DistillParams
    views = 1
    needs_teacher = True
    smallest_batch = 3  # two distances: a single one is always its own mean
    params: DistillParams

    def __init__(self, backbone: nn.Module, params: DistillParams, context: Context) -> None:
        super().__init__(backbone, params, context)
        self.source = context.teacher  # not `teacher`, which names networks that follow the student
        width = getattr(context.teacher, "num_features", backbone.num_features)  # a sketch has no teacher
        self.head = nn.Linear(backbone.num_features, int(width))

    def embedding_networks(self) -> list[nn.Module]:
        """List the student's backbone and the teacher."""
        return [self.backbone, *([] if self.source is None else [self.source])]

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Add the two losses; one of weight 0 is not computed."""
        if self.source is None:  # `reprise check` refuses this before anything runs
            raise TrainingError(
                "there is no teacher to learn from",
                where="runs: teacher",
                found="none",
                fix="Write `teacher: models/NAME` into the row, for a row of `models`.",
            )
        features_Bd = self.backbone(batch.views[0])
        taught_Bt = self.source(batch.views[0])
        projected_Bt = self.head(features_Bd)
        loss = torch.zeros((), device=features_Bd.device)
        if self.params.cosine:
            loss = loss + self.params.cosine * cosine_loss(projected_Bt, taught_Bt)
        if self.params.relational:
            loss = loss + self.params.relational * relational_loss(features_Bd, taught_Bt)
        return loss, {"features": features_Bd, "projections": projected_Bt}
