"""The protocol of a learning-rate schedule: what share of the peak rate a step is taken at.

A schedule is one file in reprise/training/schedules; its name is the file's. Parameter files choose it as a block,
`schedule: {name: step, factor: 0.1}`, whose further keys are the parameters of that schedule. A warm-up comes before
every schedule and is the same for all, so it stands here and not in their files.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, SerializeAsAny

from reprise.config.params import StrictModel, meaning
from reprise.config.plug_ins.blocks import typed_by_name
from reprise.config.plug_ins.registry import load_class
from reprise.config.texts.text_forms import plug_in_name

DEFAULT = "cosine"
Share = Annotated[float, Field(ge=0, le=1)]


class ScheduleParams(StrictModel):
    """Base of every schedule's parameters."""

    name: Annotated[str, plug_in_name("schedules"), meaning("The learning rate follows this schedule.")]


class Schedule(ABC):
    """Base of all schedules.

    Attributes:
        Params: the typed parameter class, a subclass of ScheduleParams.
    """

    Params: ClassVar[type[ScheduleParams]] = ScheduleParams

    def __init__(self, params: ScheduleParams) -> None:
        self.params = params

    @abstractmethod
    def share(self, step: int, steps: int, warmup: int) -> float:
        """Return the share of the peak rate, in [0, 1], at a step after the warm-up.

        Args:
            step: 0-based, at least `warmup`.
            steps: of the whole training.
            warmup: steps of the warm-up, less than `steps`.
        """


@dataclass(frozen=True)
class Rates:
    """The learning rate of each step of one training.

    Attributes:
        schedule: what follows the warm-up.
        steps: of the whole training.
        warmup: steps of the warm-up. With `steps` or more the training ends before the schedule begins.
        peak: the rate at the end of the warm-up, already scaled with the batch.
        start: share of the peak from which the warm-up rises.
        stretch: the schedule is laid out for this many times `steps`, and the training ends before its end.
    """

    schedule: Schedule
    steps: int
    warmup: int
    peak: float
    start: float = 0.0
    stretch: float = 1.0

    def at(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        laid_out = round(self.steps * self.stretch)
        return learning_rate_at(self.schedule, step, laid_out, self.warmup, self.peak, self.start)


def load_schedule(params: ScheduleParams) -> Schedule:
    """Build the schedule that `params` names.

    Raises:
        ParameterError: there is no such schedule.
    """
    return load_class("schedules", params.name, Schedule, "train.schedule.name")(params)  # type: ignore[type-abstract]


def learning_rate_at(schedule: Schedule, step: int, steps: int, warmup: int, peak: float, start: float = 0.0) -> float:
    """Return the learning rate of a step: a linear warm-up to the peak, then the schedule.

    Without `start` the first step is taken at peak / warmup, and the last one of the warm-up at the peak.

    Args:
        schedule: what follows the warm-up.
        step: counted from 0.
        steps: for which the schedule is laid out.
        warmup: steps of the warm-up.
        peak: the rate at the end of the warm-up, already scaled with the batch.
        start: share of the peak from which the warm-up rises.
    """
    if step < warmup:
        return peak * start + peak * (1.0 - start) * (step + 1) / warmup
    return peak * schedule.share(step, steps, warmup)


def typed_block(block: Any) -> Any:
    """Turn a block of a parameter file into the parameters of the schedule that it names.

    Every problem keeps the key that it belongs to, so that `reprise check` can name `train.schedule.factor`.
    """
    if block is None or isinstance(block, ScheduleParams):
        return block
    return typed_by_name("schedules", Schedule, block, DEFAULT)


# The type of a field that holds a schedule. None passes where the field's default is None.
ScheduleBlock = Annotated[SerializeAsAny[ScheduleParams], BeforeValidator(typed_block)]
OptionalScheduleBlock = Annotated[SerializeAsAny[ScheduleParams | None], BeforeValidator(typed_block)]
