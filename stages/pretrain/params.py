"""Typed parameters of methods. Units: epochs of images, learning rates at batch 256, probabilities in [0, 1]."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from reprise.config.params import Problem, StrictModel, meaning, parse, problems_of
from reprise.training.params import TrainParams
from reprise.training.schedule import OptionalScheduleBlock

SECTION = "train"


# Parameters that several methods have.
Temperature = Annotated[float, Field(gt=0, le=10), meaning("Similarities are divided by this temperature.")]
HiddenWidth = Annotated[int, Field(ge=1, le=65536), meaning("The heads' hidden layers have this width.", "units")]
OutputWidth = Annotated[int, Field(ge=1, le=65536), meaning("The projections have this width.", "units")]
Layers = Annotated[int, Field(ge=2, le=4), meaning("The projector has this many layers.", "layers")]
PatchSize = Annotated[int, Field(ge=1, le=64), meaning("The transformer's patches are squares of this side.", "pixels")]
Width = Annotated[int, Field(ge=1, le=4096), meaning("The transformer's tokens have this width.", "units")]
Depth = Annotated[int, Field(ge=1, le=48), meaning("The transformer has this many blocks.", "blocks")]
Heads = Annotated[
    int, Field(ge=1, le=64), meaning("Each block of the transformer attends with this many heads.", "heads")
]


class MethodParams(StrictModel):
    """Base of every method's parameters: whatever of `train` a run may set for itself; None takes `train`'s value."""

    optimizer: Annotated[
        Literal["sgd", "adamw", "lars"] | None, meaning("This run uses this optimiser instead of train.optimizer.")
    ] = None
    learning_rate: Annotated[
        Annotated[float, Field(gt=0)] | None,
        meaning("This run uses this peak learning rate, at a batch of 256 images, instead of train.learning_rate."),
    ] = None
    weight_decay: Annotated[
        Annotated[float, Field(ge=0)] | None, meaning("This run uses this weight decay instead of train.weight_decay.")
    ] = None
    warmup_epochs: Annotated[
        Annotated[int, Field(ge=0, le=100_000)] | None,
        meaning("This run warms up for this long instead of train.warmup_epochs.", "epochs"),
    ] = None
    schedule: Annotated[OptionalScheduleBlock, meaning("This run follows this schedule instead of train.schedule.")] = (
        None
    )

    def overrides(self) -> dict[str, Any]:
        """Return the values of `train` that this run replaces, by name."""
        return {name: value for name in MethodParams.model_fields if (value := getattr(self, name)) is not None}

    def applied_to(self, train: TrainParams) -> TrainParams:
        """Return `train` with what this run replaces.

        Raises:
            ParameterError: a value that replaces another is none that `train` may have.
        """
        return parse(TrainParams, {**dict(train), **self.overrides()}, "train")

    @classmethod
    def recipe_problems(cls, block: dict[str, Any], where: str) -> list[Problem]:
        """Find what is wrong with values that the block at `where` asks for without holding them; none here."""
        return []


class RecipeParams(MethodParams):
    """A method whose paper states an optimisation recipe.

    Learning rates are base rates at batch 256; config.json holds the base and the scaled one.

    Attributes:
        PAPER: the paper's values of what a run may replace of `train`.
    """

    PAPER: ClassVar[dict[str, Any]] = {}
    recipe: Annotated[
        Literal["train", "paper"],
        meaning("With `paper` the paper's values replace those of `train` wherever the run sets none itself."),
    ] = "train"

    def overrides(self) -> dict[str, Any]:
        """Return the paper's values where they are asked for, below this run's own."""
        return {**(self.PAPER if self.recipe == "paper" else {}), **super().overrides()}

    @classmethod
    def recipe_problems(cls, block: dict[str, Any], where: str) -> list[Problem]:
        """Check the paper's values like a block of params.yaml: they may replace what a run may, and nothing else."""
        if block.get("recipe") != "paper":
            return []
        origin = f"the value comes from PAPER in {cls.__module__}, because of `recipe: paper`"
        taken = {name: value for name, value in cls.PAPER.items() if block.get(name) is None}
        return [
            replace(problem, rule=f"{problem.rule} ({origin})", hint=problem.hint or " Correct it there.")
            for problem in problems_of(MethodParams, taken, where)
        ]
