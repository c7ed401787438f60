"""Typed parameters of methods. Units: epochs of images, learning rates at batch 256, probabilities in [0, 1]."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from reprise.config.params import BackboneName, Problem, StrictModel, meaning, parameter_error, parse, problems_of
from reprise.training.params import (
    REFERENCE_BATCH,
    ChunkSize,
    FrozenLayers,
    LarsParams,
    MicroBatches,
    OptimizerName,
    Processes,
    Share,
    SymmetryParams,
    TrainParams,
)
from reprise.training.schedule import OptionalScheduleBlock
from reprise.training.views import OptionalViewsBlock, merged_views
from reprise.training.watch import OptionalWatchesBlock

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


# A method's own `momentum` is that of its teacher, and a method's own `precision` that of its loss.
NAMES_IN_TRAIN = {"optimizer_momentum": "momentum", "number_format": "precision"}
# Of `train`: properties of the machine or of the images, and not of a run.
SHARED_BY_ALL = ("device", "compile", "graph", "deterministic", "window_bytes")
# What a run may replace and a recipe may not: the user alone decides on the budget.
BUDGET = (
    "backbone",
    "stem",
    "epochs",
    "batch_size",
    "number_format",
    "on_collapse",
    "checkpoint_steps",
    "image_share",
    "processes",
    "accumulate",
    "chunk_size",
    "activation_checkpointing",
    "shard_weights",
    "freeze",
    "layer_decay",
    "watches",
)
LARGE_BATCH = 1024  # images: from here on a recipe is the one that authors state for large batches, if they state two


class MethodParams(StrictModel):
    """Base of every method's parameters: whatever of `train` a run may set for itself; None takes `train`'s value."""

    backbone: Annotated[BackboneName | None, meaning("This run trains this network instead of train.backbone.")] = None
    stem: Annotated[
        Literal["auto", "small", "imagenet"] | None,
        meaning("This run's network begins with these layers instead of those of train.stem."),
    ] = None
    epochs: Annotated[
        Annotated[int, Field(ge=1, le=100_000)] | None,
        meaning("This run passes over the images this many times instead of train.epochs.", "epochs"),
    ] = None
    batch_size: Annotated[
        Annotated[int, Field(ge=2, le=1_000_000)] | None,
        meaning("Each step of this run sees this many images instead of train.batch_size.", "images"),
    ] = None
    number_format: Annotated[
        Literal["auto", "fp32", "bf16"] | None,
        meaning("This run computes in this number format instead of train.precision."),
    ] = None
    on_collapse: Annotated[
        Literal["stop", "warn"] | None,
        meaning("This run does this when its features collapse, instead of train.on_collapse."),
    ] = None
    checkpoint_steps: Annotated[
        Annotated[int, Field(ge=1, le=1_000_000_000)] | None,
        meaning("This run writes a checkpoint after every so many steps instead of train.checkpoint_steps.", "steps"),
    ] = None
    image_share: Annotated[
        Share | None,
        Field(exclude_if=lambda value: value is None),
        meaning("This run sees this share of the training images instead of train.image_share."),
    ] = None
    processes: Annotated[
        Processes | None,
        Field(exclude_if=lambda value: value is None),
        meaning("So many processes train this run together instead of train.processes.", "processes"),
    ] = None
    accumulate: Annotated[
        MicroBatches | None,
        Field(exclude_if=lambda value: value is None),
        meaning("This run cuts its batches into this many micro-batches instead of train.accumulate.", "micro-batches"),
    ] = None
    chunk_size: Annotated[
        ChunkSize | None,
        Field(exclude_if=lambda value: value is None),
        meaning("This run's backbone takes this many views at a time instead of train.chunk_size.", "views"),
    ] = None
    activation_checkpointing: Annotated[
        bool | None,
        Field(exclude_if=lambda value: value is None),
        meaning("This run computes the blocks of its backbone twice, or not, instead of as in train."),
    ] = None
    shard_weights: Annotated[
        bool | None,
        Field(exclude_if=lambda value: value is None),
        meaning("This run's processes keep parts of the backbone's weights, or not, instead of as in train."),
    ] = None
    optimizer: Annotated[OptimizerName | None, meaning("This run uses this optimiser instead of train.optimizer.")] = (
        None
    )
    learning_rate: Annotated[
        Annotated[float, Field(gt=0)] | None,
        meaning("This run uses this peak learning rate, at a batch of 256 images, instead of train.learning_rate."),
    ] = None
    learning_rate_scaling: Annotated[
        Literal["linear", "none"] | None,
        meaning("This run's learning rate follows the batch in this way instead of train.learning_rate_scaling."),
    ] = None
    optimizer_momentum: Annotated[
        Annotated[float, Field(ge=0, lt=1)] | None,
        meaning("This run's optimiser averages gradients with this momentum instead of train.momentum."),
    ] = None
    nesterov: Annotated[bool | None, meaning("This run looks ahead, or not, instead of train.nesterov.")] = None
    weight_decay: Annotated[
        Annotated[float, Field(ge=0)] | None, meaning("This run uses this weight decay instead of train.weight_decay.")
    ] = None
    weight_decay_end: Annotated[
        Annotated[float, Field(ge=0)] | None,
        meaning("This run's weight decay moves to this value by a cosine, instead of to train.weight_decay_end."),
    ] = None
    decay_vectors: Annotated[
        bool | None, meaning("This run's biases and normalisations decay, or not, instead of train.decay_vectors.")
    ] = None
    clip_norm: Annotated[
        Annotated[float, Field(ge=0)] | None,
        meaning("This run cuts its gradient to this length instead of train.clip_norm; 0 for no limit."),
    ] = None
    lars: Annotated[LarsParams | None, meaning("This run's LARS takes this form instead of that of train.lars.")] = None
    warmup_epochs: Annotated[
        Annotated[int, Field(ge=0, le=100_000)] | None,
        meaning("This run warms up for this long instead of train.warmup_epochs.", "epochs"),
    ] = None
    warmup_start: Annotated[
        Annotated[float, Field(ge=0, lt=1)] | None,
        meaning("This run's warm-up rises from this share of the peak instead of train.warmup_start."),
    ] = None
    schedule: Annotated[OptionalScheduleBlock, meaning("This run follows this schedule instead of train.schedule.")] = (
        None
    )
    schedule_stretch: Annotated[
        Annotated[float, Field(ge=1, le=10)] | None,
        meaning("This run's schedules are laid out for so many trainings instead of train.schedule_stretch."),
    ] = None
    views: Annotated[
        OptionalViewsBlock,
        meaning("This run changes images in these ways where they are set, else as train.views; a list replaces all."),
    ] = None

    watches: Annotated[
        OptionalWatchesBlock,
        Field(exclude_if=lambda value: value is None),
        meaning("These watches look at this run's training instead of those of train.watches; `{}` for none."),
    ] = None

    symmetry: Annotated[
        SymmetryParams | None,
        Field(exclude_if=lambda value: value is None),
        meaning("This run's kernels are drawn towards this symmetry instead of that of train.symmetry."),
    ] = None

    freeze: Annotated[
        FrozenLayers | None, meaning("These layers of this run do not learn instead of those of train.freeze.")
    ] = None
    layer_decay: Annotated[
        Annotated[float, Field(gt=0, le=1)] | None,
        meaning("The layers of this run learn at this share of the rate above them, instead of train.layer_decay."),
    ] = None

    def overrides(self, batch_size: int = REFERENCE_BATCH) -> dict[str, Any]:
        """Return the values of `train` that this run replaces, by their names in `train`.

        Args:
            batch_size: of the training, on which a recipe may depend.
        """
        set_here = {name: value for name in MethodParams.model_fields if (value := getattr(self, name)) is not None}
        return _named_as_in_train(set_here)

    def applied_to(self, train: TrainParams) -> TrainParams:
        """Return `train` with what this run replaces.

        Raises:
            ParameterError: a value that replaces another is none that `train` may have.
        """
        values = {**dict(train), **self.overrides(self.batch_size_in(train))}
        if values["views"] is not train.views:
            values["views"] = merged_views(train.views, values["views"], "views")
        return parse(TrainParams, values, "train")

    def batch_size_in(self, train: TrainParams) -> int:
        """Return the batch size of this run: its own, or that of `train`."""
        return self.batch_size or train.batch_size

    def with_recipe(self, batch_size: int) -> Self:
        """Return these parameters with those of the method that a recipe sets and the run does not; none here."""
        return self

    @classmethod
    def recipe_problems(cls, block: dict[str, Any], where: str) -> list[Problem]:
        """Find what is wrong with values that the block at `where` asks for without holding them; none here."""
        return []


class RecipeParams(MethodParams):
    """A method whose paper states a whole recipe: optimiser, schedules, and the views of each branch.

    Learning rates are base rates at batch 256; config.json holds the base and the scaled one. Shares of a rate (`end`
    of the schedule, `warmup_start`) are those at the authors' batch. Widths of heads are no part of a recipe.

    Attributes:
        PAPER: the paper's values, by the names of this class's fields: of what a run may replace of `train`, and of the
            method's own parameters.
        PAPER_LARGE_BATCH: the values for batches of LARGE_BATCH images and more, where the authors publish two recipes
            that linear scaling does not join; else empty.
    """

    PAPER: ClassVar[dict[str, Any]] = {}
    PAPER_LARGE_BATCH: ClassVar[dict[str, Any]] = {}
    recipe: Annotated[
        Literal["train", "paper"],
        meaning(
            "With `paper` the paper's optimiser, schedules and views replace those of `train` wherever the run sets "
            "none itself."
        ),
    ] = "train"

    def stated(self, batch_size: int) -> dict[str, Any]:
        """Return what the chosen recipe states for batches of this size; nothing for `recipe: train`."""
        if self.recipe == "train":
            return {}
        return self.PAPER_LARGE_BATCH if self.PAPER_LARGE_BATCH and batch_size >= LARGE_BATCH else self.PAPER

    def overrides(self, batch_size: int = REFERENCE_BATCH) -> dict[str, Any]:
        """Return the paper's values where they are asked for, below this run's own."""
        own = set(type(self).model_fields) - set(MethodParams.model_fields)
        stated = {name: value for name, value in self.stated(batch_size).items() if name not in own}
        if budget := [_no_part_of_a_recipe(name, stated[name], "PAPER") for name in BUDGET if name in stated]:
            raise parameter_error(budget)
        below, above = _named_as_in_train(stated), super().overrides(batch_size)
        if "views" in below:
            above["views"] = merged_views(below["views"], above.get("views", {}), "views")
        return {**below, **above}

    def with_recipe(self, batch_size: int) -> Self:
        """Return these parameters with the recipe's values of the method's own, where the run sets none itself.

        Raises:
            ParameterError: the recipe's values are none that the method may have.
        """
        own = set(type(self).model_fields) - set(MethodParams.model_fields)
        taken = {n: v for n, v in self.stated(batch_size).items() if n in own and n not in self.model_fields_set}
        return parse(type(self), {**self.model_dump(exclude_unset=True), **taken}, "methods") if taken else self

    @classmethod
    def recipe_problems(cls, block: dict[str, Any], where: str) -> list[Problem]:
        """Check the paper's values like a block of params.yaml: they may set what a run may, and nothing else."""
        if block.get("recipe", "train") == "train":
            return []
        found = []
        for name, recipe in (("PAPER", cls.PAPER), ("PAPER_LARGE_BATCH", cls.PAPER_LARGE_BATCH)):
            origin = f"the value comes from {name} in {cls.__module__}, because of `recipe: {block['recipe']}`"
            taken = {key: value for key, value in recipe.items() if block.get(key) is None}
            wrong = problems_of(cls, taken, where) + [
                _no_part_of_a_recipe(k, taken[k], where) for k in taken if k in BUDGET
            ]
            found += [
                replace(problem, rule=f"{problem.rule} ({origin})", hint=problem.hint or " Correct it there.")
                for problem in wrong
            ]
        return found


class OptimizerRecipeParams(RecipeParams):
    """A method of whose paper only the optimiser and its schedules are taken.

    Its views cannot be stated here, or could not be checked against the authors' code.
    """

    recipe: Annotated[
        Literal["train", "paper_optimizer"],
        meaning(
            "With `paper_optimizer` the paper's optimiser and schedules replace those of `train` wherever the run sets "
            "none itself; the views stay the run's, because the paper's cannot be stated here or are not known."
        ),
    ] = "train"  # type: ignore[assignment]


def _no_part_of_a_recipe(name: str, value: object, where: str) -> Problem:
    """Say that a recipe may not decide on the budget."""
    return Problem(f"{where}.{name}", "unknown parameter of a recipe: the budget of a run is the user's", value)


def _named_as_in_train(values: dict[str, Any]) -> dict[str, Any]:
    """Rename what has another name in `train`."""
    return {NAMES_IN_TRAIN.get(name, name): value for name, value in values.items()}
