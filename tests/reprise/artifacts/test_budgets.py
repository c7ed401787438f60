"""In what the budgets of runs differ."""

from __future__ import annotations

from reprise.artifacts.budgets import differences, unequal

OWN = {"steps": 10, "images_seen": 100, "epochs": 2, "started_from": "random"}


def test_a_teacher_is_part_of_the_budget() -> None:
    """What its weights have cost is nowhere else: a run that learns from them is not on a par with others."""
    taught = OWN | {"teacher": "models/vits"}
    assert unequal([OWN, taught]) == ["teacher"]
    assert differences(OWN, taught) == ["teacher's weights (none and models/vits)"]
    assert unequal([OWN, OWN | {"teacher": None}]) == []
    assert unequal([taught, taught]) == []


def test_the_images_of_earlier_runs_count() -> None:
    assert unequal([OWN, OWN | {"images_seen": 60, "before": [{"images_seen": 40}]}]) == []
    assert unequal([OWN, OWN | {"before": [{"images_seen": 40}]}]) == ["images_seen"]
    assert unequal([OWN, {"images_seen": 7}]) == []  # does not train
