"""Two-sample tests against naive restatements, their rate of false alarms, and what they find."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from reprise.measures import two_sample
from reprise.measures.two_sample import TwoSets, units_of

TESTS = ("shares", "distributions", "mean_discrepancy", "classified")


def sets_of(first: int, second: int, divisions: int = 99, seed: int = 0) -> TwoSets:
    side = np.arange(first + second) >= first
    return TwoSets(side, np.arange(first + second), divisions, seed)


def run(name: str, sets: TwoSets, x: np.ndarray) -> two_sample.Difference:
    if name == "shares":
        return two_sample.shares(sets, (x[:, 0] > 0).astype(int) + (x[:, 0] > 1))
    if name == "distributions":
        return two_sample.distributions(sets, x[:, 0])
    return getattr(two_sample, name)(sets, x)


def test_the_sizes_are_those_of_naive_restatements() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(30, 4)), rng.normal(0.7, 1.5, size=(20, 4))])
    sets, a, b = sets_of(30, 20), x[:30], x[30:]
    classes = rng.integers(0, 3, 50)
    tv = sum(abs((classes[:30] == k).mean() - (classes[30:] == k).mean()) for k in range(3)) / 2
    assert two_sample.shares(sets, classes).size == pytest.approx(tv, abs=1e-12)
    rounded = np.round(x[:, 0], 1)  # with ties
    expected = stats.ks_2samp(rounded[:30], rounded[30:]).statistic
    assert two_sample.distributions(sets, rounded).size == pytest.approx(expected, abs=1e-12)

    width = np.median([((p - q) ** 2).sum() for p, q in itertools.combinations(x, 2)])

    def k(p: np.ndarray, q: np.ndarray) -> float:
        return float(np.exp(-((p - q) ** 2).sum() / width))

    within = [np.mean([k(p, q) for p, q in itertools.permutations(side, 2)]) for side in (a, b)]
    mmd = sum(within) - 2 * np.mean([k(p, q) for p in a for q in b])
    assert two_sample.mean_discrepancy(sets, x).size == pytest.approx(mmd, abs=1e-6)


def test_the_area_is_that_of_held_out_images_only() -> None:
    rng = np.random.default_rng(1)
    x, sets = rng.normal(size=(60, 3)), sets_of(40, 20)
    learns = two_sample._half(sets)
    assert learns[:40].sum() == 20
    assert learns[40:].sum() == 10
    direction = two_sample._discriminant(x[learns], sets.second[learns])
    expected = roc_auc_score(sets.second[~learns], x[~learns] @ direction)
    assert two_sample.classified(sets, x).size == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", TESTS)
def test_false_alarms_are_as_rare_as_the_level_says(name: str) -> None:
    """400 pairs of sets from one skewed distribution: the count of p <= 0.05 lies in its binomial range."""
    alarms = 0
    for world in range(400):
        rng = np.random.default_rng(world)
        x = rng.gamma(1.5, size=(44, 3)) - 1
        alarms += run(name, sets_of(30, 14, 59, world), x).p <= 0.05
    assert alarms <= stats.binom.ppf(0.9999, 400, 0.05)
    if name != "shares":  # few values, so that many divisions are tied and the test is careful
        assert alarms >= stats.binom.ppf(0.0001, 400, 0.05)


@pytest.mark.parametrize("name", TESTS)
def test_a_shift_is_found(name: str) -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(200, 3))
    x[120:] += 1.0
    assert run(name, sets_of(120, 80), x).p == pytest.approx(0.01)


def test_groups_change_sides_as_a_whole() -> None:
    """Ten videos of twenty equal frames: by frames the sets differ beyond doubt, by videos nothing can be told."""
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(10), 20)
    values = np.repeat(rng.normal(size=10), 20)
    second = groups >= 5
    by_frame = two_sample.distributions(TwoSets(second, np.arange(200), 199), values)
    by_video = two_sample.distributions(TwoSets(second, groups, 199), values)
    assert by_frame.size == by_video.size
    assert by_frame.p <= 0.05 < by_video.p
    for division in TwoSets(second, groups, 20).again():
        assert all(len(set(division[groups == group])) == 1 for group in range(10))
        assert division.sum() == 100


def test_units_are_groups_of_one_set_and_images_without_a_group() -> None:
    second = np.array([False, False, True, True, False])
    assert units_of(second, ["a", None, "a", None, "a"]).tolist() == [0, 1, 2, 3, 0]
    with pytest.raises(ValueError, match="both sets"):
        TwoSets(second, np.array([0, 1, 0, 2, 3]))


def test_what_cannot_be_told_is_no_alarm() -> None:
    alone = TwoSets(np.zeros(5, dtype=bool), np.arange(5), 19)
    assert two_sample.distributions(alone, np.arange(5.0)).p == 1.0
    same = np.zeros((30, 2))
    assert two_sample.mean_discrepancy(sets_of(20, 10, 19), same).p == 1.0
    assert two_sample.classified(sets_of(20, 10, 19), same).p == 1.0
    assert two_sample.classified(sets_of(20, 1, 19), same) == (0.5, 1.0)


@pytest.mark.parametrize("level", [0.001, 0.01, 0.5])
def test_every_level_can_be_reached(level: float) -> None:
    """Disjoint distributions fall below the level though Holm multiplies their p by eight."""
    values = np.concatenate([np.zeros(20), np.ones(20)])
    divisions = two_sample.divisions_for(level, 8)
    found = two_sample.distributions(sets_of(20, 20, divisions), values)
    assert divisions >= two_sample.DIVISIONS
    assert found.p * 8 <= level


def test_the_early_end_is_as_careful_and_agrees_with_all_divisions(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    alarms = 0
    for world in range(120):
        values = rng.normal(size=24)
        monkeypatch.setattr(two_sample, "_ENOUGH", 5)
        early = two_sample.distributions(sets_of(14, 10, 199, world), values).p
        monkeypatch.setattr(two_sample, "_ENOUGH", 1000)
        late = two_sample.distributions(sets_of(14, 10, 199, world), values).p
        assert early == late or late > 5 / 200
        alarms += early <= 0.05
    assert alarms <= stats.binom.ppf(0.9999, 120, 0.05)


def test_memory_stays_near_that_of_one_kernel_and_of_one_count() -> None:
    sets = sets_of(800, 800, 64)
    features = np.random.default_rng(5).normal(size=(1600, 8))
    many = np.arange(1600) * 6  # 9,595 classes, of which a table of all images took 123 MB
    for found, most in ((two_sample.mean_discrepancy, 30e6), (two_sample.shares, 8e6)):
        tracemalloc.start()
        found(sets, features if found is two_sample.mean_discrepancy else many)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < most, (found, peak)
