"""Intervals and tests: by hand, against scipy, and by simulation (false-positive rates, coverage)."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from reprise.measures import statistics as st


def within(rate: float, nominal: float, trials: int) -> bool:
    """Whether a simulated rate is at most `nominal`, three standard errors of the simulation allowed."""
    return rate <= nominal + 3 * np.sqrt(nominal * (1 - nominal) / trials)


def test_never_imports_torch() -> None:
    code = "import sys, reprise.measures.statistics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- intervals over examples ------------------------------------------------------------------------------


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (10, 10), (1, 1), (350, 360)])
def test_wilson_equals_scipy(k: int, n: int) -> None:
    expected = stats.binomtest(k, n).proportion_ci(0.9, method="wilson")
    assert st.wilson(k, n, 0.9) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_refuses_nothing_to_count() -> None:
    for k, n in ((0, 0), (3, 2), (-1, 4)):
        with pytest.raises(ValueError, match="successes"):
            st.wilson(k, n)


def test_wilson_covers() -> None:
    rng = np.random.default_rng(0)
    for p in (0.5, 0.9):
        intervals = [st.wilson(int(k), 100) for k in rng.binomial(100, p, 2000)]
        assert np.mean([low <= p <= high for low, high in intervals]) > 0.93


@pytest.mark.parametrize("n", [8, 40])
def test_bootstrap_covers_also_with_few_examples(n: int) -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for trial in range(400):
        low, high = st.bootstrap_mean(rng.normal(3, 1, n), resamples=400, seed=trial)
        hits += low <= 3 <= high
    assert 0.92 < hits / 400 < 0.98


def test_groups_are_drawn_as_groups() -> None:
    """20 groups of 10 images that share most of their luck: single draws are far too sure, group draws are not."""
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(20), 10)
    whole = single = 0
    for trial in range(300):
        scores = rng.normal(0, 1, 20)[groups] + rng.normal(0, 0.3, 200)
        low, high = st.bootstrap_mean(scores, groups, resamples=400, seed=trial)
        whole += low <= 0 <= high
        low, high = st.bootstrap_mean(scores, resamples=400, seed=trial)
        single += low <= 0 <= high
    assert whole / 300 > 0.91
    assert single / 300 < 0.70


def test_bootstrap_is_seeded_and_does_not_depend_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = np.random.default_rng(3).random(50)
    first = st.bootstrap_mean(scores, seed=5)
    monkeypatch.setattr(st, "_CELLS", 700)
    assert st.bootstrap_mean(scores, seed=5) == first
    assert st.bootstrap_mean(scores, seed=6) != first


def test_no_interval_where_there_is_one_unit_or_no_value() -> None:
    assert st.bootstrap_mean(np.ones(1)) == st.NO_INTERVAL
    assert st.bootstrap_mean(np.ones(9), np.zeros(9)) == st.NO_INTERVAL
    assert st.bootstrap(lambda w: np.full(len(w), np.nan), 9) == st.NO_INTERVAL


def _korn_graubard_in_words(correct: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """The interval by its definition, a group at a time, with scipy.stats."""
    members = [correct[groups == g].astype(float) for g in sorted(set(groups.tolist()))]
    g, n = len(members), len(correct)
    p = sum(m.sum() for m in members) / n
    variance = g / (g - 1) * sum((m.sum() - p * len(m)) ** 2 for m in members) / n**2
    size = p * (1 - p) / variance if variance > 1e-12 else g
    size = min(n, size * (stats.t.ppf(0.975, n - 1) / stats.t.ppf(0.975, g - 1)) ** 2)
    low = 0.0 if p == 0 else stats.beta.ppf(0.025, p * size, size - p * size + 1)
    return low, 1.0 if p == 1 else stats.beta.ppf(0.975, p * size + 1, size - p * size)


@pytest.mark.parametrize("seed", range(6))
def test_korn_graubard_equals_its_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, rng.integers(5, 12), 60) * 7
    correct = rng.random(60) < [0.5, 0.9, 0.02, 0.0, 1.0, 0.97][seed]
    assert st.korn_graubard(correct, groups) == pytest.approx(_korn_graubard_in_words(correct, groups), abs=1e-9)


@pytest.mark.parametrize(("a", "b"), [(4.0, 2.0), (19.4, 0.6)])
@pytest.mark.parametrize(("count", "size"), [(5, 20), (10, 10), (30, 10), (8, 100)])
def test_the_interval_over_few_groups_holds_the_truth(count: int, size: int, a: float, b: float) -> None:
    """Groups differ in how hard they are, by a beta distribution; 400 worlds, of which 93 % at least must hold.

    A nominal 95 % interval that held exactly would fall below 371 of 400 in 2 % of all tests; this one errs on the side
    of caution.
    """
    rng = np.random.default_rng(1)
    held = 0
    groups = np.repeat(np.arange(count), size)
    for _ in range(400):
        chance = rng.beta(a, b, count)
        correct = rng.random(count * size) < chance[groups]
        low, high = st.share(correct, groups)
        held += low <= a / (a + b) <= high
    assert held >= 371


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_under_five_groups_there_is_no_interval(count: int) -> None:
    groups = np.arange(80) % count
    correct = np.arange(80) % 3 == 0
    assert st.share(correct, groups) == st.NO_INTERVAL
    assert st.bootstrap_mean(correct, groups) == st.NO_INTERVAL
    assert st.share(correct, np.arange(80) % 5) != st.NO_INTERVAL


def test_share_uses_groups_where_they_exist() -> None:
    correct = np.arange(40) % 4 != 0
    assert st.share(correct) == st.wilson(30, 40)
    # Every group is alike, so each counts as one image: ten of them, less what nine degrees of freedom cost.
    low, high = st.share(correct, np.arange(40) // 4)
    assert low is not None and high is not None and low < 0.42 and high > 0.94


# ---- tests over examples ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (1, 0), (5, 5), (12, 3), (40, 60)])
def test_mcnemar_equals_the_binomial_test(only_a: int, only_b: int) -> None:
    a = np.array([True] * only_a + [False] * only_b + [True] * 7)
    b = np.array([False] * only_a + [True] * only_b + [True] * 7)
    expected = stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    assert st.mcnemar(a, b) == pytest.approx(expected)
    assert st.mcnemar(b, a) == st.mcnemar(a, b)


def test_mcnemar_keeps_its_level_and_finds_differences() -> None:
    rng = np.random.default_rng(4)
    hard = rng.random((1500, 200)) < 0.7  # examples that both tend to get right
    a, b = (np.where(rng.random(hard.shape) < 0.2, ~hard, hard) for _ in range(2))
    assert within(np.mean([st.mcnemar(x, y) < 0.05 for x, y in zip(a, b, strict=True)]), 0.05, 1500)
    better = a | (rng.random(a.shape) < 0.15)
    assert np.mean([st.mcnemar(x, y) < 0.05 for x, y in zip(better, a, strict=True)]) > 0.5


def test_sign_flips_keep_their_level_where_mcnemar_does_not() -> None:
    rng = np.random.default_rng(5)
    groups = np.repeat(np.arange(30), 8)
    flips = wrong = 0
    for trial in range(300):
        a, b = (np.repeat(rng.random(30) < 0.6, 8) for _ in range(2))  # a group is right or wrong as a whole
        flips += st.sign_flip(a.astype(float) - b, groups, flips=499, seed=trial) < 0.05
        wrong += st.mcnemar(a, b) < 0.05
    assert within(flips / 300, 0.05, 300)
    assert wrong / 300 > 0.3


def test_sign_flips_of_single_examples_are_mcnemar() -> None:
    a, b = np.array([True] * 12 + [False] * 20), np.array([False] * 9 + [True] * 3 + [True] * 4 + [False] * 16)
    p = st.sign_flip(a.astype(float) - b, np.arange(32), flips=20000)
    assert p == pytest.approx(st.mcnemar(a, b), abs=0.015)


# ---- tests over seeds -------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 10])
def test_paired_t_equals_scipy(n: int) -> None:
    rng = np.random.default_rng(n)
    a, b = rng.random(n), rng.random(n)
    found, expected = st.paired_t(a - b, 0.9), stats.ttest_rel(a, b)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.interval == pytest.approx(tuple(expected.confidence_interval(0.9)))


def test_paired_t_without_spread_claims_nothing() -> None:
    assert st.paired_t([0.1, 0.1, 0.1]) == st.PairedT(pytest.approx(0.1), st.NO_INTERVAL, 1.0)
    with pytest.raises(ValueError, match="two differences"):
        st.paired_t([0.1])


def test_holm_by_hand() -> None:
    assert st.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert st.holm([0.5, 0.9]) == [1.0, 1.0]
    assert st.holm([]) == []


def test_holm_keeps_the_family_wise_level() -> None:
    p = np.random.default_rng(6).random((4000, 6))
    p[:, 0] = 1e-6  # one true difference, which must not loosen the others
    wrong = np.mean([min(st.holm(list(row))[1:]) < 0.05 for row in p])
    assert within(wrong, 0.05, 4000)
    assert wrong > 0.02  # not vacuous


# ---- verdicts ---------------------------------------------------------------------------------------------


def test_three_equal_methods_are_seldom_called_different() -> None:
    """Three seeds, three equal methods with half a point of seed noise: any claim at all in at most 5 % of worlds."""
    rng = np.random.default_rng(7)
    trials = 1500
    claims = 0
    for _ in range(trials):
        values = {m: dict(enumerate(0.8 + 0.005 * rng.normal(size=3))) for m in "abc"}
        claims += any("No difference shown" not in pair.verdict for pair in st.compare(values))
    assert within(claims / trials, 0.05, trials)


def test_testing_examples_only_would_call_equal_methods_different() -> None:
    """Why one seed says nothing about methods: noise between seeds is not in the examples."""
    rng = np.random.default_rng(8)
    n, trials, wrong = 10_000, 300, 0
    for _ in range(trials):
        levels = 0.8 + 0.005 * rng.normal(size=2)
        a, b = (rng.random(n) < level for level in levels)
        wrong += st.mcnemar(a, b) < 0.05
    assert wrong / trials > 0.10


def scores(share: float, seed: int, n: int = 400) -> np.ndarray:
    return np.random.default_rng(seed).random(n) < share


def values_of(found: dict[str, dict[int, np.ndarray]]) -> dict[str, dict[int, float]]:
    return {run: {s: float(c.mean()) for s, c in seeds.items()} for run, seeds in found.items()}


def test_one_seed_speaks_of_models_only() -> None:
    found = {"random": {0: scores(0.5, 1)}, "simclr": {0: scores(0.9, 2)}, "gsimclr": {0: scores(0.9, 3)}}
    pairs = {(p.a, p.b): p for p in st.compare(values_of(found), found)}
    far = pairs["simclr", "random"]
    assert far.test == "exact McNemar"
    assert far.difference == pytest.approx(0.4, abs=0.08)
    assert far.verdict.startswith("These two models differ: simclr above random by 0.")
    assert "One seed says nothing about the methods." in far.verdict
    assert far.over_examples.low > 0
    assert far.over_seeds == st.NO_INTERVAL
    near = pairs["gsimclr", "simclr"]
    assert near.verdict.startswith("No difference shown between these two models")
    assert near.p_adjusted >= near.p


def test_one_seed_with_groups_flips_groups() -> None:
    found = {"a": {0: scores(0.5, 1)}, "b": {0: scores(0.9, 2)}}
    (pair,) = st.compare(values_of(found), found, np.arange(400) // 4)
    assert pair.test == "sign flips of groups"
    assert "differ: b above a" in pair.verdict


def test_two_seeds_claim_nothing() -> None:
    found = {"a": {0: scores(0.2, 1), 1: scores(0.2, 2)}, "b": {0: scores(0.9, 3), 1: scores(0.9, 4)}}
    (pair,) = st.compare(values_of(found), found)
    assert (pair.test, pair.p, pair.p_adjusted) == ("none", None, None)
    assert pair.verdict.startswith("No claim: 2 seeds")
    assert pair.over_examples.low > 0  # shown apart, without a claim


def test_three_seeds_claim_by_paired_t_with_the_interval_over_examples_apart() -> None:
    found = {m: {s: scores(p, 10 * i + s) for s in range(3)} for i, (m, p) in enumerate((("a", 0.2), ("b", 0.9)))}
    (pair,) = st.compare(values_of(found), found)
    d = [found["b"][s].mean() - found["a"][s].mean() for s in range(3)]
    assert pair.test == "paired t"
    assert pair.p == pytest.approx(stats.ttest_1samp(d, 0).pvalue)
    assert pair.verdict.startswith("b is above a over 3 seeds by ")
    assert pair.over_seeds.low < pair.difference < pair.over_seeds.high
    assert pair.over_examples != pair.over_seeds


def test_metrics_without_scores_need_seeds() -> None:
    (pair,) = st.compare({"a": {0: 3.0}, "b": {0: 9.0}})
    assert pair.test == "none"
    assert pair.verdict.startswith("No claim")
    (pair,) = st.compare({"a": dict(enumerate([3.0, 3.1, 2.9])), "b": dict(enumerate([9.0, 9.1, 8.7]))})
    assert "b is above a" in pair.verdict
    assert st.compare({"a": {0: 1.0}, "b": {1: 1.0}}) == []


def test_the_difference_of_two_shares_is_newcombes() -> None:
    """Newcombe 1998, table II, method 10: 56/70 against 48/80 gives 0.0524 to 0.3339, and 0/10 against 0/20 -0.1611."""
    for (a, m), (b, n), expected in (
        ((56, 70), (48, 80), (0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.1705, 0.8090)),
        ((0, 10), (0, 20), (-0.1611, 0.2775)),
    ):
        found = st.difference_of_shares(a / m, st.wilson(a, m), b / n, st.wilson(b, n))
        assert found == pytest.approx(expected, abs=1e-4)
    assert st.difference_of_shares(0.5, (None, None), 0.4, (0.3, 0.5)) == st.NO_INTERVAL
