"""`dino`: self-distillation with no labels; the student matches a sharpened, centred teacher over crops.

Source: Caron, Touvron, Misra, Jegou, Mairal, Bojanowski, Joulin, "Emerging Properties in Self-Supervised Vision
Transformers", ICCV 2021. Authors' code: facebookresearch/dino.

Idea: the teacher, an average of the student, sees the large crops, the student sees all; each student output predicts
each teacher output of another crop. Centring alone would end in equal outputs and sharpening alone in one winner:
together they balance.

Deviations: the head's last layer is frozen for a share of the training, not for the first epoch. Optimiser and views
are `train`'s unless `recipe: paper` asks for the paper's. The areas of large and small crops meet at 0.4, the authors'
default. Paper: 65536 outputs, head 2048-2048-256, teacher temperature 0.04, rising to 0.07 over 30 epochs in its longer
runs (`teacher_temperature_end`, `temperature_warmup`).

Shape legend: B batch, V crops, K outputs.

Checked by: tests/stages/pretrain/methods/losses/test_multi_view_losses.py;
tests/stages/pretrain/methods/test_recipes.py.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from reprise.config.params import meaning
from reprise.networks.heads import PlainHead, Prototypes
from reprise.objectives.centring import Centre
from reprise.objectives.precision import full_precision
from stages.pretrain.method import Batch, Context
from stages.pretrain.params import HiddenWidth
from stages.pretrain.parts import paper_views
from stages.pretrain.parts.centred_teacher import CentreMomentum, GradientClip, StudentTemperature
from stages.pretrain.parts.multi_crop import LARGE, MultiCropParams, ScaleSplit, embed_crops, multi_crop_plan
from stages.pretrain.parts.teacher import Kept, TeacherMethod, TeacherParams
from stages.pretrain.views.settings import ViewSettings


class DINOParams(MultiCropParams, TeacherParams):
    """Parameters of `dino`."""

    PAPER: ClassVar = {  # the release's defaults; its rate ends at 1e-6, of 0.002 at the paper's batch of 1024
        "optimizer": "adamw", "learning_rate": 5e-4, "learning_rate_scaling": "linear",
        "warmup_epochs": 10, "warmup_start": 0.0, "schedule": {"name": "cosine", "end": 5e-4}, "schedule_stretch": 1.0,
        "clip_norm": 0.0, "weight_decay": 0.04, "weight_decay_end": 0.4, "decay_vectors": False,
        "views": paper_views.with_options(
            paper_views.BYOL, blur={"probability": [1.0, 0.1, 0.5]}, solarize={"probability": [0.0, 0.2, 0.0]}
        ),
        "momentum": 0.996, "momentum_end": 1.0, "momentum_schedule": "cosine", "clip": 3.0, "scale_split": 0.4,
        "small_scale_min": 0.05,
    }  # fmt: skip
    keep: Kept = "teacher"
    outputs: Annotated[int, Field(ge=2, le=1_000_000), meaning("The head has this many outputs (K).", "outputs")] = 1024
    hidden: HiddenWidth = 256
    bottleneck: Annotated[
        int, Field(ge=1, le=65536), meaning("The head narrows to this width before its outputs.", "units")
    ] = 128
    student_temperature: StudentTemperature = 0.1
    teacher_temperature: Annotated[
        float, Field(gt=0, le=10), meaning("The teacher's softmax has this temperature at the first step.")
    ] = 0.04
    teacher_temperature_end: Annotated[
        float, Field(gt=0, le=10), meaning("The teacher's softmax reaches this temperature in a line.")
    ] = 0.04
    temperature_warmup: Annotated[
        float, Field(ge=0, le=1), meaning("The teacher's temperature reaches its end after this share of the training.")
    ] = 0.3
    centre_momentum: CentreMomentum = 0.9
    scale_split: ScaleSplit = 0.4
    clip: GradientClip = 3.0
    frozen_for: Annotated[
        float, Field(ge=0, le=1), meaning("The head's last layer stays as it is for this share of the training.")
    ] = 0.01


@full_precision
def dino_loss(
    student: list[Tensor], teacher: list[Tensor], centre: Tensor, student_temperature: float, teacher_temperature: float
) -> Tensor:
    """Equations 1 to 3: mean cross entropy over all pairs of a teacher's crop and another crop of the student.

    Args:
        student: V tensors (B, K), the teacher's crops first. teacher: (B, K) of each large crop. centre: (K,).
    """
    total, pairs = student[0].new_zeros(()), 0
    for i, t in enumerate(teacher):
        target = F.softmax((t.detach() - centre) / teacher_temperature, dim=1)
        for j, s in enumerate(student):
            if i != j:
                total = total - (target * F.log_softmax(s / student_temperature, dim=1)).sum(dim=1).mean()
                pairs += 1
    return total / pairs


class DINO(TeacherMethod):
    """Head without batch normalisation, prototypes of length one, a centred teacher."""

    Params = DINOParams
    params: DINOParams

    def __init__(self, backbone: nn.Module, params: DINOParams, context: Context) -> None:
        super().__init__(backbone, params, context)
        self.head = PlainHead([backbone.num_features, params.hidden, params.hidden, params.bottleneck], nn.GELU)
        self.prototypes = Prototypes(params.bottleneck, params.outputs)
        self.centre = Centre(params.outputs, params.centre_momentum)
        self.register_buffer("progress", torch.zeros((), dtype=torch.float64))
        self.add_teacher("backbone", "head", "prototypes")

    def view_plan(self, settings: ViewSettings) -> list[ViewSettings]:
        """Plan two large crops and `small_crops` small ones."""
        return multi_crop_plan(settings, self.params)

    @property
    def temperature(self) -> float:
        """Return the teacher's present temperature."""
        start, end = self.params.teacher_temperature, self.params.teacher_temperature_end
        share = 1.0 if self.params.temperature_warmup == 0 else float(self.progress) / self.params.temperature_warmup
        return start + (end - start) * min(1.0, share)

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss; the centre takes in this batch afterwards, as in algorithm 1."""
        features = embed_crops(self.backbone, batch.views)
        projections = self.head(features)
        student = self.prototypes(projections).chunk(len(batch.views))
        teacher = self.taught(torch.cat(batch.views[:LARGE]))
        loss = dino_loss(
            list(student),
            list(teacher.chunk(LARGE)),
            self.centre.value.clone(),
            self.params.student_temperature,
            self.temperature,
        )
        self.centre.update(teacher.float())
        first = slice(len(batch.rows))
        return loss, {"features": features[first], "projections": projections[first]}

    def after_backward(self, progress: float) -> None:
        """Clip each parameter's gradient by its norm; freeze the last layer at first."""
        if progress < self.params.frozen_for:
            self.prototypes.weight.grad = None
        if self.params.clip:
            for parameter in self.parameters():
                if parameter.grad is not None:
                    nn.utils.clip_grad_norm_([parameter], self.params.clip)

    def after_step(self, progress: float) -> None:
        """Let the teacher follow the student."""
        super().after_step(progress)
        self.progress.fill_(progress)
