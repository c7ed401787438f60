"""`cosine`: half a cosine from the peak rate to a share of it, which is reached at the end of the training.

Source: Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017, without restarts.
SimCLR, BYOL, DINO and most self-supervised methods use it.

Checked by: tests/reprise/training/test_schedules.py.
"""

from __future__ import annotations

from typing import Annotated

from reprise.config.params import meaning
from reprise.training.optimization.annealing import half_cosine
from reprise.training.schedule import Schedule, ScheduleParams, Share


class Cosine(Schedule):
    """Half a cosine after the warm-up."""

    class Params(ScheduleParams):
        """The parameters of `cosine`."""

        end: Annotated[Share, meaning("This share of the peak rate is left at the end.")] = 0.0

    params: Params

    def share(self, step: int, steps: int, warmup: int) -> float:
        """Fall from 1 at the end of the warm-up to `end` at `steps`."""
        left = half_cosine(step - warmup, max(1, steps - warmup))
        return self.params.end + (1.0 - self.params.end) * left
