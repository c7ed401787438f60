"""The pairs of the study: right ones and wrong ones, each with the weight that the miner would give it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stages.mine.miner import Images
from stages.mine.miners.frame_matching import FrameMatching, MatchingParams
from studies import relations


def clip(frames: int = 6, things: int = 4) -> tuple[np.ndarray, np.ndarray, Images]:
    """Features in which each thing is easily found again, who is who, and the names of the images."""
    rng = np.random.default_rng(0)
    who = np.tile(np.arange(things), frames)
    features = 3 * np.eye(things)[who] + 0.3 * rng.normal(size=(len(who), things))
    paths = [f"clip-0000/{t:04d}_{k}.png" for t in range(frames) for k in range(things)]
    return features.astype(np.float32), who, Images(paths, ["clip-0000"] * len(who))


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_so_many_pairs_are_wrong_as_was_asked_for_and_wrong_ones_weigh_less(share: float) -> None:
    features, who, images = clip(frames=60)
    pairs = relations.made_pairs(features, who, images, share, np.random.default_rng(1))
    right = who[pairs.rows[:, 0]] == who[pairs.rows[:, 1]]
    assert 1 - right.mean() == pytest.approx(share, abs=0.08)
    assert (pairs.rows[:, 1] // 4 - pairs.rows[:, 0] // 4 == 1).all()
    if share == 0.4:
        assert pairs.weight[right].mean() > 2 * pairs.weight[~right].mean()


def test_the_weight_of_a_right_pair_is_that_of_the_miner() -> None:
    features, who, images = clip()
    made = relations.made_pairs(features, who, images, 0.0, np.random.default_rng(1))
    mined = FrameMatching(MatchingParams(), 0, images).mine(features, None, Path()).pairs
    assert mined is not None
    expected = {tuple(row): weight for row, weight in zip(mined.rows.tolist(), mined.weight.tolist(), strict=True)}
    assert {tuple(row): pytest.approx(expected[tuple(row)], rel=1e-5) for row in made.rows.tolist()} == {
        tuple(row): weight for row, weight in zip(made.rows.tolist(), made.weight.tolist(), strict=True)
    }
