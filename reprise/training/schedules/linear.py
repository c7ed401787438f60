"""`linear`: a straight line from the peak rate to a share of it, which is reached at the end of the training.

Source: Li, Yumer, Ramanan, "Budgeted Training: Rethinking Deep Neural Network Training Under Resource Constraints",
ICLR 2020, which finds it the most robust schedule where a budget is fixed beforehand.

Checked by: tests/reprise/training/test_schedules.py.
"""

from __future__ import annotations

from typing import Annotated

from reprise.config.params import meaning
from reprise.training.schedule import Schedule, ScheduleParams, Share


class Linear(Schedule):
    """A straight line after the warm-up."""

    class Params(ScheduleParams):
        """The parameters of `linear`."""

        end: Annotated[Share, meaning("This share of the peak rate is left at the end.")] = 0.0

    params: Params

    def share(self, step: int, steps: int, warmup: int) -> float:
        """Fall from 1 at the end of the warm-up to `end` at `steps`."""
        done = (step - warmup) / max(1, steps - warmup)
        return 1.0 - (1.0 - self.params.end) * done
