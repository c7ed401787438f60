"""The rules of docs/explanation/statistics.md as simulations: worlds of known truth, and how often a rule is wrong.

Bounds come from the binomial error of the simulation: a rule that errs at exactly its nominal rate passes in 999 of
1,000 choices of the seed. Where a rule is said to be needed, the tempting alternative fails on the same worlds.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pipeline.compare.revisions import Figure
from pipeline.compare.runs import difference_interval
from reprise.measures import spectrum
from reprise.measures import statistics as st
from stages.probe.data import Part
from stages.probe.probes.label_free import intrinsic
from stages.probe.scoring import balanced_accuracy

SURE = 0.999
LEVEL = 0.05


def at_most(nominal: float, trials: int) -> float:
    """The largest rate that a rule with error `nominal` shows in `trials` worlds."""
    return float(stats.binom.ppf(SURE, trials, nominal)) / trials


def at_least(nominal: float, trials: int) -> float:
    """The smallest one."""
    return float(stats.binom.ppf(1 - SURE, trials, nominal)) / trials


# ---- over seeds: equal methods ----------------------------------------------------------------------------


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_paired_t_errs_at_its_nominal_rate_and_its_interval_covers(seeds: int) -> None:
    """Differences of two methods over seeds, half a point of noise each, data and seed shared: the rate is exact."""
    rng = np.random.default_rng(seeds)
    trials = 4000
    shared = rng.normal(0, 0.01, (trials, seeds))
    a, b = (0.8 + shared + 0.005 * rng.normal(size=(trials, seeds)) for _ in range(2))
    found = [st.paired_t(row) for row in a - b]
    wrong = np.mean([result.p < LEVEL for result in found])
    assert at_least(LEVEL, trials) <= wrong <= at_most(LEVEL, trials)
    outside = np.mean([not result.interval.low <= 0 <= result.interval.high for result in found])
    assert outside == pytest.approx(wrong)


def test_three_seeds_what_else_one_might_test_and_how_often_it_is_wrong() -> None:
    """Two equal methods, three seeds with half a point of noise, 10,000 test images: claims of a difference.

    Over examples only: far too often. Over resampled seeds and examples: twice too often. Paired t: as it promises.
    """
    rng = np.random.default_rng(0)
    trials, seeds, n = 1500, 3, 10_000
    levels = 0.8 + 0.005 * rng.normal(size=(2, trials, seeds))
    accuracy = rng.binomial(n, levels) / n
    differences = accuracy[0] - accuracy[1]
    error = np.sqrt((accuracy * (1 - accuracy) / n).sum(axis=0))  # of each seed's difference, over examples
    z = differences.mean(axis=1) / (np.sqrt((error**2).sum(axis=1)) / seeds)
    examples_only = np.mean(np.abs(z) > stats.norm.ppf(1 - LEVEL / 2))
    draws = rng.integers(0, seeds, (trials, 1000, seeds))
    centre = np.take_along_axis(differences[:, None, :], draws, axis=2)
    noise = rng.normal(size=centre.shape) * np.take_along_axis(error[:, None, :], draws, axis=2)
    low, high = np.quantile((centre + noise).mean(axis=2), [LEVEL / 2, 1 - LEVEL / 2], axis=1)
    both = np.mean((low > 0) | (high < 0))
    paired = np.mean([st.paired_t(row).p < LEVEL for row in differences])
    assert examples_only > 0.15
    assert both > at_most(LEVEL, trials)
    assert at_least(LEVEL, trials) <= paired <= at_most(LEVEL, trials)


@pytest.mark.parametrize("methods", [2, 6])
def test_a_family_of_equal_methods_yields_a_claim_in_at_most_one_world_of_twenty(methods: int) -> None:
    """All pairs of equal methods over three seeds, Holm over the family; pairs share runs, so they are dependent."""
    rng = np.random.default_rng(methods)
    trials = 600
    claims = alone = 0
    for _ in range(trials):
        values = {f"m{m}": dict(enumerate(0.8 + 0.005 * rng.normal(size=3))) for m in range(methods)}
        pairs = st.compare(values)
        claims += any(pair.p_adjusted is not None and pair.p_adjusted < LEVEL for pair in pairs)
        alone += any(pair.p is not None and pair.p < LEVEL for pair in pairs)
    assert claims / trials <= at_most(LEVEL, trials)
    if methods > 2:
        assert alone / trials > 3 * LEVEL  # without Holm


# ---- one seed: equal models -------------------------------------------------------------------------------


@pytest.mark.parametrize("grouped", [False, True])
def test_three_equal_models_are_called_different_in_at_most_one_world_of_twenty(grouped: bool) -> None:
    """One seed, three models with equal chances on every image; with groups, an image is as its group is."""
    rng = np.random.default_rng(10 + grouped)
    trials, units, copies = (120 if grouped else 300), 60, 6
    groups = np.repeat(np.arange(units), copies) if grouped else None
    claims = as_single = 0
    for _ in range(trials):
        chance = rng.beta(2, 1, units)  # hard and easy ones
        right = {m: np.repeat(rng.random(units) < chance, copies if grouped else 1) for m in "abc"}
        values = {m: {0: float(r.mean())} for m, r in right.items()}
        scores = {m: {0: r} for m, r in right.items()}
        claims += any("differ:" in pair.verdict for pair in st.compare(values, scores, groups))
        as_single += any("differ:" in pair.verdict for pair in st.compare(values, scores)) if grouped else 0
    assert claims / trials <= at_most(LEVEL, trials)
    if grouped:
        assert as_single / trials > 4 * LEVEL  # images of one group taken for independent


# ---- over examples: coverage ------------------------------------------------------------------------------


def test_interval_of_a_difference_between_two_models_covers() -> None:
    rng = np.random.default_rng(20)
    trials, n = 1000, 150
    hits = 0
    for trial in range(trials):
        chance = rng.beta(2, 1, n)
        a, b = rng.random(n) < np.minimum(1, chance + 0.05), rng.random(n) < chance
        low, high = st.bootstrap_mean(a.astype(float) - b, seed=trial)
        hits += low <= _capped_gain(0.05) <= high
    assert at_least(0.945, trials) <= hits / trials <= at_most(0.96, trials)


def _capped_gain(g: float) -> float:
    """E[min(1, c + g) - c] where c has density 2 c on [0, 1]."""
    below = g * (1 - g) ** 2
    above = (1 - (1 - g) ** 2) - 2 / 3 * (1 - (1 - g) ** 3)
    return below + above


def test_balanced_accuracy_over_groups_covers_where_single_images_do_not() -> None:
    rng = np.random.default_rng(21)
    trials, scenes, size = 120, 40, 8
    whole = single = 0
    keys = np.arange(scenes * size).astype(str)
    for _ in range(trials):
        labels = np.repeat(rng.random(scenes) < 0.4, size).astype(np.int64)  # a scene shows one class
        right = np.repeat(rng.random(scenes), size) < np.where(labels == 1, 0.6, 0.8)  # and has one fate
        predicted = np.where(right, labels, 1 - labels)
        for groups in (np.repeat(np.arange(scenes), size), None):
            figure = balanced_accuracy(Part(keys, labels, groups), predicted, 0.95)
            hit = figure.low <= 0.7 <= figure.high
            whole, single = whole + (groups is not None and hit), single + (groups is None and hit)
    assert whole / trials >= at_least(0.93, trials)
    assert single / trials < 0.7


def test_the_gates_interval_covers_and_is_careful_on_shared_images() -> None:
    """Champion and challenger on the same test images: the interval that takes them for independent is too wide."""
    rng = np.random.default_rng(22)
    trials, n = 1500, 300
    apart = shared = 0
    for _ in range(trials):
        chance = rng.beta(4, 1, n)
        same = [(rng.random(n) < chance).sum() for _ in range(2)]
        other = [rng.binomial(n, 0.8), rng.binomial(n, 0.8)]
        for counts in (same, other):
            first, second = (Figure(c / n, *st.wilson(int(c), n)) for c in counts)
            low, high = difference_interval(first, second)
            hit = low <= 0 <= high
            shared, apart = shared + (counts is same and hit), apart + (counts is other and hit)
    assert at_least(0.95, trials) <= apart / trials <= at_most(0.97, trials)
    assert shared >= apart


# ---- no bootstrap where duplicates bias -------------------------------------------------------------------


def test_drawing_with_replacement_biases_ranks_neighbours_and_dimensions() -> None:
    """Why RankMe, two-NN and neighbour figures have no bootstrap interval: every draw lies on one side of the truth."""
    rng = np.random.default_rng(30)
    x, labels = rng.normal(size=(150, 100)), rng.integers(0, 2, 150)

    def same_kind(features: np.ndarray, kinds: np.ndarray) -> float:
        """Share of rows whose nearest other row is of their kind: one half here, where kinds mean nothing."""
        distance = ((features[:, None] - features) ** 2).sum(-1)
        np.fill_diagonal(distance, np.inf)
        return float((kinds[distance.argmin(1)] == kinds).mean())

    draws = [rng.integers(0, 150, 150) for _ in range(40)]
    assert max(spectrum.rankme(x[rows]) for rows in draws) < spectrum.rankme(x) - 5
    assert min(same_kind(x[rows], labels[rows]) for rows in draws) > 0.65 > same_kind(x, labels)
    for rows in draws[:5]:
        with pytest.raises(ValueError, match="distance zero"):
            intrinsic.two_nn(intrinsic.neighbour_distances(x[rows], 2))


# ---- choices ----------------------------------------------------------------------------------------------


def test_a_choice_on_test_flatters_and_a_choice_on_val_does_not() -> None:
    """Twenty equal settings: the best on test looks better than any is; the best on val is scored honestly on test."""
    rng = np.random.default_rng(40)
    worlds, settings, n = 3000, 20, 400
    val, test = (rng.binomial(n, 0.8, (worlds, settings)) / n for _ in range(2))
    error = 3 * np.sqrt(0.8 * 0.2 / n / worlds)
    chosen_on_val = np.take_along_axis(test, val.argmax(axis=1)[:, None], axis=1)
    assert chosen_on_val.mean() == pytest.approx(0.8, abs=error)
    assert test.max(axis=1).mean() > 0.8 + 0.03
