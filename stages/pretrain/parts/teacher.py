"""A teacher: a copy of the student's networks that follows them slowly and never gets a gradient.

Source: He et al., "Momentum Contrast", CVPR 2020 (equation 2); the schedule is BYOL's (Grill et al., NeurIPS 2020,
section 3.3): momentum = end - (end - start) * (cos(pi k / K) + 1) / 2 at step k of K. MSN's is a straight line.

A teacher begins as a copy of the untrained student, and after K steps the product of the K momenta of it is still left:
0.49 after 360 steps from 0.996 to 1, 0.02 after 2,000. Where more than 5 % is left, a note says so, with the momentum
that would leave no more.

Parameters follow as averages. Batch normalisation's running statistics are the teacher's own, from the views that it
sees itself.
"""

from __future__ import annotations

import copy
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from reprise.config.params import meaning
from reprise.networks.heads import Assigner, Classifier, Projector
from reprise.training.optimization.annealing import anneal
from stages.pretrain.method import Context, Method
from stages.pretrain.params import RecipeParams

Momentum = Annotated[
    float, Field(ge=0, le=1), meaning("The teacher's average keeps this share of itself at the first step.")
]
LastMomentum = Annotated[
    float, Field(ge=0, le=1), meaning("The teacher's average keeps this share of itself at the last step.")
]
Kept = Annotated[Literal["student", "teacher"], meaning("This network becomes the backbone.")]


Form = Literal["cosine", "linear"]


class TeacherParams(RecipeParams):
    """Parameters of every method with a teacher."""

    momentum: Momentum = 0.996
    momentum_end: LastMomentum = 1.0
    momentum_schedule: Annotated[
        Form, meaning("The momentum moves to its end along half a cosine or a straight line.")
    ] = "cosine"
    keep: Kept = "student"


MOST_RANDOM = 0.05  # share of the random start that may be left in a teacher without a note


def momentum_at(progress: float, start: float, end: float, form: Form) -> float:
    """Return the momentum of a step that ends at this progress, in (0, 1]."""
    return anneal(progress, start, end) if form == "cosine" else start + (end - start) * progress


def random_share(steps: int, start: float, end: float, form: Form) -> float:
    """Return the share of its random start that a teacher keeps after so many steps: the product of all momenta.

    Args:
        steps: of the whole training.
        start, end, form: of the momentum; see `momentum_at`.
    """
    share = 1.0
    for k in range(1, steps + 1):
        share *= momentum_at(k / steps, start, end, form)
        if share < 1e-9:  # long trainings: nothing of it is left, and the momentum never exceeds 1
            break
    return share


def largest_start(steps: int, end: float, form: Form, constant: bool) -> float | None:
    """Find the largest momentum, in thousandths, that leaves at most MOST_RANDOM of the random start.

    Args:
        steps: of the whole training.
        end, form: of the momentum.
        constant: the end moves with the start.

    Returns:
        None where even 0 leaves more, because there are too few steps.
    """
    low, high = -1, 1000  # thousandths: the first leaves little enough, the second too much
    while high - low > 1:
        middle = (low + high) // 2
        start = middle / 1000
        enough = random_share(steps, start, start if constant else end, form) <= MOST_RANDOM
        low, high = (middle, high) if enough else (low, middle)
    return low / 1000 if low >= 0 else None


def frozen_copy(module: nn.Module) -> nn.Module:
    """Copy a network with its values, without gradients."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Move parameters: teacher <- momentum * teacher + (1 - momentum) * student. Buffers stay."""
    slow, fast = list(teacher.parameters()), list(student.parameters())
    if slow:  # a part may have no parameters
        torch._foreach_lerp_(slow, fast, 1.0 - momentum)  # one call on a GPU for all, as optimisers do


class TeacherMethod(Method):
    """A method whose backbone, and further parts by name, have a teacher."""

    Params = TeacherParams
    params: TeacherParams

    def __init__(self, backbone: nn.Module, params: TeacherParams, context: Context) -> None:
        super().__init__(backbone, params, context)
        self.weights = params.keep
        self._note_the_random_share()

    def _note_the_random_share(self) -> None:
        """Note how much of the teacher will still be its random start, where that is much."""
        params, steps = self.params, self.context.steps
        left = random_share(steps, params.momentum, params.momentum_end, params.momentum_schedule)
        if left <= MOST_RANDOM:
            return
        saved = "it is the network that is saved" if params.keep == "teacher" else "it makes the student's targets"
        constant = params.momentum == params.momentum_end
        start = largest_start(steps, params.momentum_end, params.momentum_schedule, constant)
        names = "`momentum` and `momentum_end`" if constant else "`momentum`"
        advice = "Train for more steps." if start is None else f"Set {names} to at most {start:g}, or train for longer."
        self.notes.append(
            f"{100 * left:.0f} % of the teacher is still its random start after {steps} steps, and {saved}. {advice}"
        )

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
        params = self.params
        momentum = momentum_at(progress, params.momentum, params.momentum_end, params.momentum_schedule)
        for name, part in self.teacher.items():
            follow(part, getattr(self, name), momentum)

    def embedding_networks(self) -> list[nn.Module]:
        """List the student's backbone and the teacher's."""
        return [self.backbone, *([self.teacher["backbone"]] if "backbone" in self.teacher else [])]

    def trained_backbone(self) -> nn.Module:
        """Return the student's backbone or the teacher's, by `keep`."""
        return self.teacher["backbone"] if self.params.keep == "teacher" else self.backbone

    def heads(self) -> dict[str, Projector | Classifier | Assigner]:
        """Return the projector of the network that is kept."""
        head = self.teacher["projector"] if self.params.keep == "teacher" and "projector" in self.teacher else None
        head = self.projector if head is None else head
        return {"projector": head} if isinstance(head, Projector) else {}
