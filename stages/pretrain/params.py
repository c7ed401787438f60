"""Typed parameters of methods. Units: epochs of images, learning rates at batch 256, probabilities in [0, 1]."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from reprise.config.params import StrictModel
from reprise.training.params import TrainParams
from reprise.training.schedule import OptionalScheduleBlock

SECTION = "train"


class MethodParams(StrictModel):
    """Base of every method's parameters: whatever of `train` a run may set for itself; None takes `train`'s value."""

    optimizer: Literal["sgd", "adamw", "lars"] | None = None
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    weight_decay: Annotated[float, Field(ge=0)] | None = None
    warmup_epochs: Annotated[int, Field(ge=0, le=100_000)] | None = None
    schedule: OptionalScheduleBlock = None

    def applied_to(self, train: TrainParams) -> TrainParams:
        """`train` with this run's own values."""
        own = {k: v for k in MethodParams.model_fields if (v := getattr(self, k)) is not None}
        return train.model_copy(update=own)


class RecipeParams(MethodParams):
    """A method whose paper states an optimisation recipe.

    recipe: `train` (one budget for all runs) or `paper`, which takes the values of PAPER wherever the run sets none
    itself. Learning rates are base rates at batch 256; config.json holds the base and the scaled one.
    """

    PAPER: ClassVar[dict[str, Any]] = {}
    recipe: Literal["train", "paper"] = "train"

    def applied_to(self, train: TrainParams) -> TrainParams:
        """`train` with the paper's values where asked for, then with this run's own."""
        return super().applied_to(train.model_copy(update=self.PAPER if self.recipe == "paper" else {}))
