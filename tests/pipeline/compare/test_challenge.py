"""The rule of a promotion: by seeds, by images, by groups; and what is said of it."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.compare.challenge import Challenge, _judged
from reprise.measures.statistics import Interval, mcnemar, paired_t


def right(champion: list[float], challenger: list[float]) -> dict[str, np.ndarray]:
    return {"champion": np.array(champion, dtype=bool), "challenger": np.array(challenger, dtype=bool)}


def test_one_seed_is_judged_over_images_and_three_over_seeds() -> None:
    rng = np.random.default_rng(0)
    seeds = [right(list(rng.random(200) < 0.6), list(rng.random(200) < 0.8)) for _ in range(3)]
    interval, p, over = _judged(seeds[:1], None)
    assert p == mcnemar(seeds[0]["challenger"], seeds[0]["champion"])
    assert interval.low is not None
    assert interval.low > 0
    assert over == "200 images"
    differences = [each["challenger"].mean() - each["champion"].mean() for each in seeds]
    assert _judged(seeds, None) == (paired_t(differences).interval, paired_t(differences).p, "3 seeds")
    assert _judged(seeds[:2], None) == ((None, None), None, "")


def test_images_of_one_group_are_not_independent() -> None:
    """Ten videos of twenty frames, all frames of a video answered alike: the interval is that of ten, not of 200."""
    better = np.repeat(np.array([1, 1, 1, 0, 1, 1, 0, 1, 1, 0], dtype=bool), 20)
    one = [right([0] * 200, list(better))]
    alone, grouped = (_judged(one, groups)[0] for groups in (None, [f"v{place // 20}" for place in range(200)]))
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)
    assert _judged(one, [None, *["v"] * 100, *["w"] * 99])[2] == "3 groups"


@pytest.mark.parametrize(
    ("interval", "margin", "passed"),
    [
        ((-0.05, -0.01), 0.0, False),
        ((-0.05, -0.01), 0.02, True),
        ((-0.05, 0.01), 0.0, True),
        ((None, None), 0.0, False),
    ],
)
def test_a_challenger_fails_if_it_is_shown_to_be_worse(
    interval: tuple[float | None, float | None], margin: float, passed: bool
) -> None:
    found = Challenge("simclr", "simclr@v1.0.0", (0.8, 0.77), Interval(*interval), 0.01, "500 images", margin, 3)
    assert found.passed is passed
    text = " ".join(found.lines())
    assert ("not worse" in text) is passed
    assert "3 val images were left out" in text
    assert found.json()["passed"] is passed


def test_a_first_version_has_nothing_to_be_compared_with() -> None:
    assert Challenge("simclr").passed
    assert "nothing to compare with" in Challenge("simclr").lines()[0]
    assert Challenge("simclr").json()["champion"] is None
