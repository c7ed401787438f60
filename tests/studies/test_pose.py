"""The arithmetic of the study of poses: batches of pairs, view consistency, and what its tables say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from studies.factors import pose
from tests.stages.pretrain.methods.conftest import build


def drawn() -> pose.Drawn:
    count = sum(pose.OBJECTS.values())
    objects = np.repeat(np.arange(count), pose.VIEWS)
    poses = np.random.default_rng(0).normal(size=(len(objects), 4))
    return pose.Drawn(torch.zeros(len(objects), 3, 8, 8), poses, objects, ["mug"] * len(objects))


@pytest.mark.parametrize("name", ["sie", "pair_contrast"])
def test_partners_are_other_views_of_one_object_of_train(name: str) -> None:
    method, views = build(name), drawn()
    batch = pose.batch_of(method, views, np.random.default_rng(0), cropped=name != "sie")
    rows, half = batch.rows.numpy(), pose.BATCH // 2
    assert (views.objects[rows[:half]] == views.objects[rows[half:]]).all()
    assert (rows[:half] != rows[half:]).all()
    assert views.objects[rows].max() < pose.OBJECTS["train"]
    assert batch.partner[batch.partner].tolist() == list(range(pose.BATCH))
    if name == "sie":
        np.testing.assert_allclose(batch.fact("pose").numpy(), views.poses[rows], rtol=1e-6)


def test_every_setting_sees_equally_many_views() -> None:
    batches = [pose.batch_of(build(n), drawn(), np.random.default_rng(0), True) for n in ("simclr", "pair_contrast")]
    assert {sum(len(view) for view in batch.views) for batch in batches} == {pose.BATCH}


def test_consistency_is_the_share_of_the_most_frequent_answer() -> None:
    answers, groups = np.array([1, 1, 2, 0, 0, 0]), np.array([5, 5, 5, 5, 7, 7])
    assert pose.consistency(answers, groups) == pytest.approx((2 / 4 + 2 / 2) / 2)


def test_tables_compare_seed_by_seed_and_say_what_is_not_shown() -> None:
    plain = dict.fromkeys(pose.SHOWN, 0.1)
    low = {seed: {**plain, "consistency": 50.0 + seed} for seed in range(3)}
    high = {seed: {**plain, "consistency": 60.0 + seed + (seed == 2)} for seed in range(3)}
    written = pose.tables({"simclr": low, "pair_contrast": high})
    assert "| simclr | 3 |" in written
    assert (
        "| pair_contrast consistency against simclr consistency | 3 | +10.333 | +8.899 to +11.768 | above |" in written
    )
    assert "| pair_contrast class against simclr class | 3 | +0.000 | no interval | not shown |" in written
