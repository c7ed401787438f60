"""`step`: the peak rate, multiplied by a factor at each milestone.

Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016. The defaults are those of MoCo
(He et al. 2020): a tenth after epochs 120 and 160 of 200.

Checked by: tests/reprise/training/test_schedules.py.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from reprise.config.params import meaning
from reprise.training.schedule import Schedule, ScheduleParams


class Step(Schedule):
    """A staircase."""

    class Params(ScheduleParams):
        """The parameters of `step`."""

        milestones: Annotated[
            list[Annotated[float, Field(gt=0, lt=1)]],
            Field(min_length=1, max_length=100),
            meaning("The rate falls after each of these shares of the whole training, which ascend."),
        ] = Field(default_factory=lambda: [0.6, 0.8])
        factor: Annotated[
            float, Field(gt=0, lt=1), meaning("The rate is multiplied by this factor at each milestone.")
        ] = 0.1

        @field_validator("milestones")
        @classmethod
        def _ascend(cls, value: list[float]) -> list[float]:
            if value != sorted(set(value)):
                raise ValueError("must ascend, each milestone after the one before")
            return value

    params: Params

    def share(self, step: int, steps: int, warmup: int) -> float:
        """Multiply by `factor` once for every milestone that was reached."""
        reached = sum(step >= milestone * steps for milestone in self.params.milestones)
        return self.params.factor**reached
