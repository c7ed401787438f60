"""How often a promotion is refused wrongly, and how often a loss is found: the figures of docs/how-to/promote.md.

`python -m tests.pipeline.compare.test_challenge_rates` prints them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from pipeline.compare.challenge import Challenge, _judged

_TRIALS = 400


class World(NamedTuple):
    """Backbones whose truth is known.

    Attributes:
        seeds: of champion and challenger.
        images: of val.
        noise: standard deviation over seeds, a share of right answers.
        loss: of the challenger's recipe.
    """

    seeds: int
    images: int
    noise: float
    loss: float


def refused(world: World, trials: int = _TRIALS) -> tuple[float, float]:
    """Return the share of trials that the rule refuses, and the share that the interval over seeds alone would refuse.

    An image has a chance to be answered rightly (0.8 in the mean); each backbone shifts it, and answers for itself.
    """
    rng = np.random.default_rng(7)
    rule = seeds_alone = 0
    for _ in range(trials):
        shift = rng.normal(0, world.noise, (world.seeds, 2, 1)) - [[0], [world.loss]]
        right = rng.random((world.seeds, 2, world.images)) < rng.beta(4, 1, world.images) + shift
        answers = [{"champion": both[0], "challenger": both[1]} for both in right]
        before, after = right.mean(axis=(0, 2))
        found = Challenge("r", "v", (float(before), float(after)), **_judged(answers, None))
        rule += not found.passed
        seeds_alone += world.seeds > 2 and found.interval.high is not None and found.interval.high < 0
    return rule / trials, seeds_alone / trials


def at_most(rate: float, deviations: float = 3.0) -> float:
    return rate + deviations * float(np.sqrt(rate * (1 - rate) / _TRIALS))


@pytest.mark.parametrize("world", [World(1, 500, 0, 0), World(2, 500, 0, 0), World(3, 100, 0, 0), World(3, 500, 0, 0)])
def test_backbones_that_are_as_good_are_seldom_refused(world: World) -> None:
    """2.5 % over images, and as much over seeds where there are three."""
    assert refused(world)[0] <= at_most(0.025 if world.seeds < 3 else 0.05)


def test_a_loss_of_five_points_is_found() -> None:
    rule, seeds_alone = refused(World(3, 500, 0.005, 0.05))
    assert rule > 0.9
    assert seeds_alone < 0.6


if __name__ == "__main__":
    for seeds, images in ((1, 100), (1, 500), (2, 500), (3, 100), (3, 500), (3, 2000)):
        for loss in (0.0, 0.02, 0.05):
            for noise in (0.0, 0.005) if loss == 0 else (0.005,):
                found = World(seeds, images, noise, loss)
                print(found, *(f"{share:.1%}" for share in refused(found, 2000)))
