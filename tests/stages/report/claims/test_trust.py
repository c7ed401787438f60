"""Whether to trust the result: each question, with an answer that asks for care and one that does not."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from stages.report.claims.convergence import late_share, warm_up_share
from stages.report.claims.trust import Point, points_of_trust
from stages.report.readers.images.ingest import Images
from stages.report.readers.images.validation import Check
from stages.report.readers.runs import Run
from tests.stages.report.conftest import seed_run

RATES = {"steps": 360, "warmup_steps": 30}
FLAT = tuple(1 + 5 * 0.9**i for i in range(60))


def run(name: str = "a", losses: tuple[float, ...] = FLAT, seeds: int = 3, n: int = 400, **config: Any) -> Run:
    own = {"method": "simclr", "steps": 360, "images_seen": 100, "epochs": 60, "learning_rates": RATES, **config}
    found = [seed_run(name, 0.9, seed, **own) for seed in range(seeds)]
    figures = {"knn.top1": dataclasses.replace(found[0].figures["knn.top1"], n=n)}
    return Run(name, tuple(dataclasses.replace(s, history={"loss": losses}, figures=figures) for s in found))


def images(val: int = 200, **counts: int) -> Images:
    return Images({"train": 900, "val": val, **(counts or {"test": 300})}, ("x", "y"), {}, {}, {}, (8, 8, 8, 8), 0)


def cares(*runs: Run, data: Images | None = None, checks: tuple[Check, ...] | None = None) -> list[str]:
    return [point.care for point in points_of_trust(runs, None, data or images(), None, checks) if point.care]


def answer(points: tuple[Point, ...], words: str) -> str:
    return next(point.answer for point in points if words in point.question)


def test_a_sound_comparison_asks_for_no_care() -> None:
    check = Check("x", "error", True, "", ())
    assert cares(run("a"), run("b"), checks=(check,)) == []
    assert points_of_trust((), None, images()) == ()


@pytest.mark.parametrize(
    ("changed", "care"),
    [
        ({"seeds": 2}, "2 seeds for some runs"),
        ({"steps": 10}, "a and b took only 10 steps"),
        ({"learning_rates": {"steps": 6, "warmup_steps": 5}}, "a and b warmed up for 83 % of the steps"),
        ({"losses": tuple(float(9 - i) for i in range(8))}, "the loss of a and b was still falling"),
        ({"losses": (1.0, 1.0, 1.0, 1.5, 2.0)}, "the loss of a and b did not fall"),
        ({"collapse": {"step": 3, "found": "no spread"}}, "a and b collapsed"),
    ],
)
def test_what_speaks_against_a_training_is_said_in_a_few_words(changed: dict[str, Any], care: str) -> None:
    assert cares(run("a", **changed), run("b", **changed)) == [care]


def test_unequal_budgets_crops_and_optimisers_are_named() -> None:
    assert cares(run("a"), run("b", images_seen=300)) == ["unequal images seen"]
    view = {"size": 16, "crop_scale_min": 0.3, "crop_scale_max": 1.0, "views": 2}
    train = {"train": {"optimizer": "sgd"}, "method": {"optimizer": None}}
    one, other = {"view_plan": [view], "parameters": train}, {"view_plan": [view | {"crop_scale_min": 0.08}]}
    own = {"train": {"optimizer": "sgd"}, "method": {"optimizer": "lars"}}
    found = points_of_trust((run("a", **one), run("b", **other, parameters=own)), None, images())
    assert [point.care for point in found if point.care] == ["unequal crops and optimizer"]
    words = answer(found, "equal crops")
    assert "a: 16 px, 30 to 100 % of the area; b: 16 px, 8 to 100 % of the area" in words
    assert "Optimizer: a: sgd; b: lars." in words
    more_views = {"view_plan": [view | {"views": 8}]}  # the number of views belongs to the method
    assert cares(run("a", view_plan=[view]), run("b", **more_views)) == []


def test_few_images_and_failed_expectations_ask_for_care() -> None:
    assert cares(run(), data=images(29)) == ["only 29 images in val"]
    assert cares(run(), data=images(train=9)) == ["no test split"]
    failed = Check("x", "warning", False, "", ())
    assert cares(run(), checks=(failed,)) == ["1 expectations fail"]
    wide = run("a")
    figure = dataclasses.replace(wide.first.figures["knn.top1"], low=0.8, high=1.0)
    wide = Run("a", tuple(dataclasses.replace(s, figures={"knn.top1": figure}) for s in wide.seeds[:1]))
    assert cares(wide) == ["one seed", "figures known to ±10.0 points only"]


def test_the_share_of_the_fall_is_that_of_the_last_tenth() -> None:
    straight = run(losses=tuple(100.0 - i for i in range(100)))
    assert late_share(straight) == pytest.approx(10 / 95)  # over moments of a twentieth
    assert late_share(run(losses=(3.0, 2.0, 1.0))) is None
    assert late_share(run(losses=FLAT)) < 0.01
    assert warm_up_share({}) == 0
