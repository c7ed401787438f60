"""`warmup_stable_decay`: the peak rate for most of the training, then a straight line down at its end.

Source: Hu et al., "MiniCPM: Unveiling the Potential of Small Language Models with Scalable Training Strategies", COLM
2024; Zhai, Kolesnikov, Houlsby, Beyer, "Scaling Vision Transformers", CVPR 2022, call the last part a cooldown. A run
can be continued from before its decay, so one long run serves several budgets.

Checked by: tests/reprise/training/test_schedules.py.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from reprise.config.params import meaning
from reprise.training.schedule import Schedule, ScheduleParams, Share


class WarmupStableDecay(Schedule):
    """Flat, then a straight line."""

    class Params(ScheduleParams):
        """The parameters of `warmup_stable_decay`."""

        decay: Annotated[
            float, Field(gt=0, le=1), meaning("The rate falls over this last share of the whole training.")
        ] = 0.2
        end: Annotated[Share, meaning("This share of the peak rate is left at the end.")] = 0.0

    params: Params

    def share(self, step: int, steps: int, warmup: int) -> float:
        """Stay at 1 until the decay begins, which is never before the end of the warm-up."""
        begin = max(warmup, steps - round(self.params.decay * steps))
        done = max(0, step - begin) / max(1, steps - begin)
        return 1.0 - (1.0 - self.params.end) * done
