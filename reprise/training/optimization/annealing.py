"""Half a cosine: how learning rates, weight decays and teachers' momenta move from one value to another.

Source: Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017 (equation 5, without
restarts); for momentum and weight decay Grill et al. 2020 (BYOL) and Caron et al. 2021 (DINO).
"""

from __future__ import annotations

import math


def half_cosine(done: float, total: float = 1.0) -> float:
    """Return the share that is left after `done` of `total`: 1 at the start, 1/2 half-way, 0 at the end.

    Args:
        done: steps, or any measure of progress, in [0, total].
        total: in the same unit, above 0.
    """
    return 0.5 * (1.0 + math.cos(math.pi * done / total))


def anneal(progress: float, start: float, end: float) -> float:
    """Move from `start` at progress 0 to `end` at progress 1 along half a cosine; exact at both ends."""
    return end - (end - start) * half_cosine(progress)
