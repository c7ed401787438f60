"""The rule of a promotion: by seeds, by images, by groups; and what is said of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from pipeline.compare.challenge import Challenge, _judged
from reprise.measures.statistics import Interval, bootstrap_mean, mcnemar, paired_t


def right(champion: Sequence[float], challenger: Sequence[float]) -> dict[str, np.ndarray]:
    return {"champion": np.array(champion, dtype=bool), "challenger": np.array(challenger, dtype=bool)}


def test_one_seed_is_judged_over_images_and_three_over_seeds() -> None:
    rng = np.random.default_rng(0)
    seeds = [right(list(rng.random(200) < 0.6), list(rng.random(200) < 0.8)) for _ in range(3)]
    one, two, three = (_judged(seeds[:count], None) for count in (1, 2, 3))
    assert one["p"] == mcnemar(seeds[0]["challenger"], seeds[0]["champion"])
    assert one["interval"] == one["over_images"]
    assert one["interval"].low > 0
    assert one["over"] == "200 images"
    differences = [each["challenger"].mean() - each["champion"].mean() for each in seeds]
    tested = paired_t(differences)
    assert (three["interval"], three["p"], three["over"]) == (tested.interval, tested.p, "3 seeds")
    each = np.mean([seed["challenger"].astype(float) - seed["champion"] for seed in seeds], axis=0)
    assert three["over_images"] == bootstrap_mean(each)
    assert three["over_images"].high - three["over_images"].low < one["interval"].high - one["interval"].low
    assert two["interval"] == two["over_images"]
    assert (two["p"], two["over"]) == (None, "200 images")


def drawn(champion: list[float], challenger: list[float], images: int, seed: int = 0) -> Challenge:
    """Judge backbones with these chances of a right answer: one a seed."""
    rng = np.random.default_rng(seed)
    answers = [
        right(list(rng.random(images) < old), list(rng.random(images) < new))
        for old, new in zip(champion, challenger, strict=True)
    ]
    before, after = (float(np.mean([each[name] for each in answers])) for name in ("champion", "challenger"))
    return Challenge("simclr", "simclr@v1.0.0", (before, after), **_judged(answers, None))


def test_a_loss_that_differs_between_seeds_is_a_loss() -> None:
    """The seed that lost most widens the interval over seeds, which then holds 0; that over images does not."""
    found = drawn([0.90, 0.92, 0.91], [0.80, 0.75, 0.60], 500)
    assert found.interval.high is not None and found.over_images.high is not None
    assert found.interval.high > 0 > found.over_images.high
    assert not found.passed
    assert "over 3 seeds and [" in found.lines()[0] and "over 500 images, p =" in found.lines()[0]
    assert found.json()["over_images"] == {**found.over_images._asdict(), "units": "500 images"}
    assert replace(found, margin=0.3).passed


def test_two_seeds_are_judged_as_one_and_three_are() -> None:
    equal = [0.8, 0.8]
    assert sum(drawn(equal, equal, 200, seed).passed for seed in range(20)) >= 18  # the difference is below 0 in half
    assert not drawn([0.9, 0.9], [0.8, 0.8], 500).passed


def test_seeds_that_agree_show_a_loss_that_images_do_not() -> None:
    found = Challenge("simclr", "v", (0.9, 0.88), Interval(-0.03, -0.01), 0.01, "3 seeds", over_images=Interval(-1, 1))
    assert not found.passed
    assert replace(found, margin=0.02).passed


def test_too_few_groups_leave_the_difference_itself() -> None:
    worse = right([1] * 40, [1] * 39 + [0])
    found = Challenge("simclr", "v", (1.0, 0.975), **_judged([worse] * 3, [*"ab" * 20]))
    assert found.over_images == (None, None)
    assert not found.passed
    assert "worse than v by more than 0 by the difference itself" in found.lines()[-1]
    assert replace(found, margin=0.03).passed


def test_seeds_decide_where_there_are_too_few_groups() -> None:
    found = Challenge("simclr", "v", (0.9, 0.89), Interval(-0.03, 0.01), 0.3, "3 seeds", images="4 groups")
    assert found.passed
    assert "by more than 0 with a whole interval" in found.lines()[-1]


def test_the_last_version_again_gets_no_new_one_where_it_is_held_against_an_earlier_one() -> None:
    found = drawn([0.6], [0.9], 100)
    again = replace(found, identical=True)
    assert again.lines() == [*found.lines(), "Its backbone is that of the last version, and gets no new one."]
    assert again.json() == found.json() | {"identical": True}


def test_images_of_one_group_are_not_independent() -> None:
    """Ten videos of twenty frames, all frames of a video answered alike: the interval is that of ten, not of 200."""
    better = np.repeat(np.array([1, 1, 1, 0, 1, 1, 0, 1, 1, 0], dtype=bool), 20)
    one = [right([0] * 200, list(better))]
    alone, grouped = (
        _judged(one, groups)["interval"] for groups in (None, [f"v{place // 20}" for place in range(200)])
    )
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)
    assert _judged(one, [None, *["v"] * 100, *["w"] * 99])["over"] == "3 groups"


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
    ends = Interval(*interval)
    found = Challenge("simclr", "simclr@v1.0.0", (0.8, 0.77), ends, 0.01, "500 images", margin, 3, over_images=ends)
    assert found.passed is passed
    text = " ".join(found.lines())
    assert ("not worse" in text) is passed
    assert "3 val images were left out" in text
    assert found.json()["passed"] is passed


def test_a_first_version_has_nothing_to_be_compared_with() -> None:
    assert Challenge("simclr").passed
    assert "nothing to compare with" in Challenge("simclr").lines()[0]
    assert Challenge("simclr").json()["champion"] is None
