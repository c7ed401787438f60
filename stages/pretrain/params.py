"""Typed parameters of methods. Units: epochs of images, learning rates at batch 256, probabilities in [0, 1]."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from reprise.config.params import Problem, StrictModel, parse, problems_of
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

    recipe: `train` (one budget for all runs) or `paper`, which takes the values of PAPER wherever the run sets none
    itself. Learning rates are base rates at batch 256; config.json holds the base and the scaled one.
    """

    PAPER: ClassVar[dict[str, Any]] = {}
    recipe: Literal["train", "paper"] = "train"

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
