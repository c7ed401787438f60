"""A teacher: a copy of the student's networks that follows them slowly and never gets a gradient.

Source: He et al., "Momentum Contrast", CVPR 2020 (equation 2); the schedule is BYOL's (Grill et al., NeurIPS 2020,
section 3.3): momentum = end - (end - start) * (cos(pi k / K) + 1) / 2 at step k of K.

Parameters follow as averages. Batch normalisation's running statistics are the teacher's own, from the views that it
sees itself.
"""

from __future__ import annotations

import copy
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from reprise.config.params import meaning
from reprise.networks.heads import Projector
from reprise.training.annealing import anneal
from stages.pretrain.method import Context, Method
from stages.pretrain.params import RecipeParams

Momentum = Annotated[
    float, Field(ge=0, le=1), meaning("The teacher's average keeps this share of itself at the first step.")
]
LastMomentum = Annotated[
    float, Field(ge=0, le=1), meaning("The teacher's average keeps this share of itself at the last step.")
]
Kept = Annotated[Literal["student", "teacher"], meaning("This network becomes the backbone.")]


class TeacherParams(RecipeParams):
    """Parameters of every method with a teacher."""

    momentum: Momentum = 0.996
    momentum_end: LastMomentum = 1.0
    keep: Kept = "student"


def frozen_copy(module: nn.Module) -> nn.Module:
    """Copy a network with its values, without gradients."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Move parameters: teacher <- momentum * teacher + (1 - momentum) * student. Buffers stay."""
    for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
        slow.lerp_(fast, 1.0 - momentum)


class TeacherMethod(Method):
    """A method whose backbone, and further parts by name, have a teacher."""

    Params = TeacherParams
    params: TeacherParams

    def __init__(self, backbone: nn.Module, params: TeacherParams, context: Context) -> None:
        super().__init__(backbone, params, context)
        self.weights = params.keep

    def add_teacher(self, *parts: str) -> None:
        """Copy these attributes ("backbone", "projector"); call it at the end of the constructor."""
        self.teacher = nn.ModuleDict({name: frozen_copy(getattr(self, name)) for name in parts})

    @torch.no_grad()
    def taught(self, x: Tensor) -> Tensor:
        """Pass (B, C, S, S) through the teacher's parts, one after the other, without gradients."""
        for part in self.teacher.values():
            x = part(x)
        return x

    def after_step(self, progress: float) -> None:
        """Let the teacher follow the student."""
        momentum = anneal(progress, self.params.momentum, self.params.momentum_end)
        for name, part in self.teacher.items():
            follow(part, getattr(self, name), momentum)

    def trained_backbone(self) -> nn.Module:
        """Return the student's backbone or the teacher's, by `keep`."""
        return self.teacher["backbone"] if self.params.keep == "teacher" else self.backbone

    def heads(self) -> dict[str, Projector]:
        """Return the projector of the network that is kept."""
        head = self.teacher["projector"] if self.params.keep == "teacher" and "projector" in self.teacher else None
        head = self.projector if head is None else head
        return {"projector": head} if isinstance(head, Projector) else {}


class DecayingTeacherParams(TeacherParams):
    """Parameters of a teacher whose student's weight decay may change."""

    weight_decay_end: Annotated[
        Annotated[float, Field(ge=0)] | None,
        meaning("Weight decay goes to this value by a cosine; null leaves it as it is (paper: 0.04 to 0.4)."),
    ] = None


class DecayingTeacherMethod(TeacherMethod):
    """A teacher whose student's weight decay may change over the training (DINO, MSN)."""

    Params = DecayingTeacherParams
    params: DecayingTeacherParams

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Give the student's matrices a group of their own where their weight decay changes."""
        end = self.params.weight_decay_end
        if end is None:
            return []
        return [{"params": [p for p in self.parameters() if p.requires_grad and p.ndim > 1], "weight_decay_end": end}]
