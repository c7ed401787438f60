"""Whether a training had come to rest: how much of the fall of the loss its end still brought, and its warm-up."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from stages.report.readers.runs import Run

FEWEST_STEPS = 100
WARM_UP = 0.25  # share of the steps
STILL_FALLING = 0.05  # share of the whole fall that the last tenth of the training brings; a straight line brings 0.1
_FEWEST_EPOCHS = 4
_LAST = 10  # the last tenth


def late_share(run: Run) -> float | None:
    """Return the share of the fall of the loss that the last tenth of the training brought, the largest of all seeds.

    The loss of a moment is the mean over a twentieth of the epochs, so that noise counts little. A loss that ends
    no lower than it began never fell, and gives infinity.

    Returns:
        The share; None where the histories are too short to tell.
    """
    shares = [share for seed in run.seeds if (share := _of_losses(seed.history.get("loss", ()))) is not None]
    return max(shares, default=None)


def warm_up_share(config: Mapping[str, Any]) -> float:
    """Return the share of the steps in which the learning rate was still rising; 0 where that is not recorded."""
    rates = config.get("learning_rates")
    if not isinstance(rates, Mapping) or not rates.get("steps"):
        return 0.0
    return float(rates.get("warmup_steps") or 0) / float(rates["steps"])


def _of_losses(history: Sequence[float | None]) -> float | None:
    losses = [loss for loss in history if loss is not None]
    n = len(losses)
    if n < _FEWEST_EPOCHS:
        return None
    width, late = max(1, n // 20), max(1, n // _LAST)
    start, before, end = (_mean(part) for part in (losses[:width], losses[-late - width : -late], losses[-width:]))
    if start - end <= 0:
        return math.inf
    return max(0.0, (before - end) / (start - end) * (n / _LAST) / late)  # short histories: their last epoch counts


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
