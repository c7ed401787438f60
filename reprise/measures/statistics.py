"""Intervals and tests, by the rules of docs/explanation/statistics.md. They need numpy and scipy, never torch.

- Over examples: a Wilson interval for a share, a bootstrap for other figures. Where groups (videos, patients) exist,
  the images of one group are not independent: a share gets the interval of Korn and Graubard, and the bootstrap draws
  whole groups. Under FEWEST_UNITS groups there is none. It says how sure the figure of *this model* is.
- Over seeds: a paired t test. It says whether one *method* is above the other.
- One seed allows a sentence about two models and none about methods; two seeds allow no sentence; three or more
  allow one about methods. Holm over the stated family of pairs in every case.

Legend: n examples, s seeds, b resamples.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

CONFIDENCE = 0.95
RESAMPLES = 2000
SEEDS_FOR_METHODS = 3
FEWEST_UNITS = 5  # groups, or images of a class: intervals over two or three hold the truth half of the time
_CELLS = 1 << 22  # numbers held at once while resampling


class Interval(NamedTuple):
    """Both ends of a confidence interval; None where none can be given."""

    low: float | None
    high: float | None


NO_INTERVAL = Interval(None, None)


def wilson(successes: int, n: int, confidence: float = CONFIDENCE) -> Interval:
    """Return the interval of a share of independent examples (Wilson 1927).

    It lies inside [0, 1] and is useful at 0 and n successes too.

    Raises:
        ValueError: n < 1 or successes outside 0..n.
    """
    from scipy import special

    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"successes must be in 0..n and n at least 1, got {successes} of {n}")
    z = float(special.ndtri((1 + confidence) / 2))
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Interval(float(low), float(high))


def korn_graubard(correct: np.ndarray, groups: np.ndarray, confidence: float = CONFIDENCE) -> Interval:
    """Return the interval of a share of examples that come in groups (Korn and Graubard 1998, with exact limits).

    The n examples count as n_eff independent ones: as many as would give the share the variance that it has between
    groups, less what the few degrees of freedom of that variance cost. The limits are those of Clopper and Pearson at
    n_eff. Where groups do not differ at all, each counts as one example.

    Args:
        correct: (n,) booleans.
        groups: (n,) integers.
        confidence: of the interval.

    Returns:
        The interval; none with fewer than FEWEST_UNITS groups.
    """
    from scipy import special

    names, unit = np.unique(np.asarray(groups), return_inverse=True)
    g, n = len(names), len(correct)
    if g < FEWEST_UNITS:
        return NO_INTERVAL
    values = np.asarray(correct, dtype=np.float64)
    share = float(values.mean())
    sizes = np.bincount(unit, minlength=g)
    residuals = np.bincount(unit, weights=values, minlength=g) - share * sizes
    variance = g / (g - 1) * float((residuals**2).sum()) / n**2  # of the ratio estimator, linearised
    effective = share * (1 - share) / variance if variance > 1e-12 and 0 < share < 1 else float(g)
    tail = (1 + confidence) / 2
    effective *= float(special.stdtrit(n - 1, tail) / special.stdtrit(g - 1, tail)) ** 2
    effective = min(float(n), effective)
    x = share * effective
    low = 0.0 if x <= 0 else float(special.betaincinv(x, effective - x + 1, 1 - tail))
    high = 1.0 if share == 1 else float(special.betaincinv(x + 1, effective - x, tail))
    return Interval(low, high)


def bootstrap(
    statistic: Callable[[np.ndarray], np.ndarray],
    n: int,
    groups: np.ndarray | None = None,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
    copies: np.ndarray | None = None,
) -> Interval:
    """Return the percentile interval of a statistic, expanded for few units (Hesterberg 2015, section 5.4).

    It must not be used for figures that duplicates bias (neighbour graphs, NMI, RankMe).

    Args:
        statistic: (b, n) float64 weights, how often each example was drawn -> (b,) values; NaN where it is undefined
            (such draws are left out).
        n: length of the weights.
        groups: (n,) integers; whole groups are drawn. None: single examples.
        copies: (n,) how many examples each weight stands for, when many are interchangeable (the same label, the same
            answer): the same distribution at a fraction of the cost. Only without groups.

    Returns:
        The interval; none with fewer than FEWEST_UNITS groups, with fewer than two examples, or when over half the
        draws are undefined.
    """
    from scipy import special

    if groups is not None:
        names, unit = np.unique(np.asarray(groups), return_inverse=True)
        chances = np.full(len(names), 1 / len(names))
        units = len(names)
    else:
        copies = np.ones(n, dtype=np.int64) if copies is None else copies
        units, unit = int(copies.sum()), np.arange(n)
        chances = copies / units
    if units < (2 if groups is None else FEWEST_UNITS):
        return NO_INTERVAL
    rng = np.random.default_rng(seed)
    values = []
    step = max(1, _CELLS // n)
    for start in range(0, resamples, step):
        draws = rng.multinomial(units, chances, size=min(step, resamples - start))
        values.append(np.asarray(statistic(draws[:, unit].astype(np.float64)), dtype=np.float64))
    found = np.concatenate(values)
    found = found[np.isfinite(found)]
    if len(found) < resamples / 2:
        return NO_INTERVAL
    # plain percentiles are too narrow by sqrt((u - 1) / u) and use the normal where t is due
    z = float(special.stdtrit(units - 1, (1 + confidence) / 2)) * np.sqrt(units / (units - 1))
    tail = float(special.ndtr(-z))
    low, high = np.quantile(found, [tail, 1 - tail])
    return Interval(float(low), float(high))


def bootstrap_mean(
    scores: np.ndarray,
    groups: np.ndarray | None = None,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Return the `bootstrap` interval of the mean of (n,) per-example scores."""
    scores, copies = np.asarray(scores, dtype=np.float64), None
    if groups is None:
        scores, copies = np.unique(scores, return_counts=True)

    def mean(weights: np.ndarray) -> np.ndarray:
        return (weights @ scores) / weights.sum(1)

    return bootstrap(mean, len(scores), groups, confidence, resamples, seed, copies)


def share(correct: np.ndarray, groups: np.ndarray | None = None, confidence: float = CONFIDENCE) -> Interval:
    """Return the interval of the share of True in (n,) booleans: Wilson, or Korn and Graubard over groups."""
    if groups is None:
        return wilson(int(np.sum(correct)), len(correct), confidence)
    return korn_graubard(correct, groups, confidence)


def difference_of_shares(
    first: float,
    of_first: tuple[float | None, float | None],
    second: float,
    of_second: tuple[float | None, float | None],
) -> Interval:
    """Return the interval of the difference of two shares of different examples (Newcombe 1998, method 10).

    Args:
        first: a share.
        of_first: its interval, Wilson's or that over groups.
        second: the share that is taken from it.
        of_second: its interval.

    Returns:
        The interval; none where one of the shares has none.
    """
    low, high = of_first
    lower, upper = of_second
    if low is None or high is None or lower is None or upper is None:
        return NO_INTERVAL
    difference = first - second
    below = float(np.hypot(first - low, upper - second))
    above = float(np.hypot(high - first, second - lower))
    return Interval(difference - below, difference + above)


def mcnemar(correct_a: np.ndarray, correct_b: np.ndarray) -> float:
    """Return the p value of the exact two-sided McNemar test of two models on the same independent examples.

    The test is binomial on the examples that only one model gets right, with the smaller tail doubled. It is
    conservative (not the mid-p variant): of equal models it calls at most the nominal share different.

    Args:
        correct_a, correct_b: (n,) booleans.
    """
    from scipy import special

    a, b = np.asarray(correct_a, dtype=bool), np.asarray(correct_b, dtype=bool)
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    return float(min(1.0, 2 * special.bdtr(min(only_a, only_b), only_a + only_b, 0.5)))


def sign_flip(differences: np.ndarray, groups: np.ndarray, flips: int = 9999, seed: int = 0) -> float:
    """Return the two-sided p value of a paired test over groups, used where examples are not independent.

    If two models are alike, the sum of differences in a group is as often positive as negative. So the signs of whole
    groups are flipped at random; p is (1 + flips at least as extreme) / (1 + flips).

    Args:
        differences: (n,) correct_a - correct_b.
        groups: (n,) integers.
        flips: random assignments of signs.
        seed: of the random signs.
    """
    names, unit = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.bincount(unit, weights=np.asarray(differences, dtype=np.float64), minlength=len(names))
    sums = sums[sums != 0]
    observed = abs(sums.sum())
    rng = np.random.default_rng(seed)
    extreme, step = 0, max(1, _CELLS // max(1, len(sums)))
    for start in range(0, flips, step):
        signs = rng.integers(0, 2, (min(step, flips - start), len(sums)), dtype=np.int8) * 2 - 1
        extreme += int((np.abs(signs @ sums) >= observed - 1e-9).sum())
    return (1 + extreme) / (1 + flips)


class PairedT(NamedTuple):
    """Mean of per-seed differences, its interval over seeds, and the two-sided p."""

    mean: float
    interval: Interval
    p: float


def paired_t(differences: Sequence[float] | np.ndarray, confidence: float = CONFIDENCE) -> PairedT:
    """Test per-seed differences by a paired t test with s - 1 degrees of freedom.

    Differences that are all equal leave no spread to test against. That happens by chance with coarse figures and few
    seeds, so p is then 1, not 0, and there is no interval.

    Raises:
        ValueError: fewer than two differences.
    """
    from scipy import special

    d = np.asarray(differences, dtype=np.float64)
    if len(d) < 2:
        raise ValueError(f"a paired t test needs two differences or more, got {len(d)}")
    mean, sd = float(d.mean()), float(d.std(ddof=1))
    if sd <= 1e-12 * max(1.0, float(np.abs(d).max())):
        return PairedT(mean, NO_INTERVAL, 1.0)
    error = sd / np.sqrt(len(d))
    half = float(special.stdtrit(len(d) - 1, (1 + confidence) / 2)) * error
    p = 2 * float(special.stdtr(len(d) - 1, -abs(mean) / error))
    return PairedT(mean, Interval(mean - half, mean + half), p)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust the p values of a family by Holm 1979, in the given order; reject where the result is below the level."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    factors = np.arange(len(p), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * factors)) if len(p) else p
    return [float(v) for v in adjusted]


@dataclass(frozen=True)
class Pair:
    """Run `a` against run `b` on one metric. `difference` is the mean over common seeds of a - b."""

    a: str
    b: str
    seeds: tuple[int, ...]
    difference: float
    test: str  # "exact McNemar", "sign flips of groups", "paired t", "none"
    p: float | None
    p_adjusted: float | None  # Holm over the family
    over_seeds: Interval  # of the difference between methods; needs three seeds
    over_examples: Interval  # of the difference between these very models; needs per-example scores
    verdict: str


def compare(
    values: Mapping[str, Mapping[int, float]],
    scores: Mapping[str, Mapping[int, np.ndarray]] | None = None,
    groups: np.ndarray | None = None,
    confidence: float = CONFIDENCE,
) -> list[Pair]:
    """Every pair of runs on one metric: the family over which Holm adjusts.

    Args:
        values: run -> seed -> value. Pairs are (later run, earlier run), so that a positive difference speaks for
            the later one.
        scores: run -> seed -> (n,) booleans, correct or not, in one order of examples for all; None if the metric
            has none (RankMe, say).
        groups: (n,) integers or None.

    Returns:
        One Pair for each two runs that share a seed.
    """
    drafts = []
    for b, a in combinations(values, 2):
        seeds = tuple(sorted(set(values[a]) & set(values[b])))
        if seeds:
            drafts.append(_draft(a, b, seeds, values, scores, groups, confidence))
    tested = [i for i, d in enumerate(drafts) if d.p is not None]
    adjusted = dict(zip(tested, holm([drafts[i].p or 0.0 for i in tested]), strict=True))
    level = 1 - confidence
    return [_decided(d, adjusted.get(i), len(tested), level) for i, d in enumerate(drafts)]


def _draft(
    a: str,
    b: str,
    seeds: tuple[int, ...],
    values: Mapping[str, Mapping[int, float]],
    scores: Mapping[str, Mapping[int, np.ndarray]] | None,
    groups: np.ndarray | None,
    confidence: float,
) -> Pair:
    differences = np.array([values[a][s] - values[b][s] for s in seeds])
    over_examples, test, p, over_seeds = NO_INTERVAL, "none", None, NO_INTERVAL
    if scores is not None:
        per_example = np.mean([scores[a][s].astype(np.float64) - scores[b][s] for s in seeds], axis=0)
        over_examples = bootstrap_mean(per_example, groups, confidence)
        if len(seeds) == 1 and groups is None:
            test, p = "exact McNemar", mcnemar(scores[a][seeds[0]], scores[b][seeds[0]])
        elif len(seeds) == 1:
            test, p = "sign flips of groups", sign_flip(per_example, np.asarray(groups))
    if len(seeds) >= SEEDS_FOR_METHODS:
        result = paired_t(differences, confidence)
        test, p, over_seeds = "paired t", result.p, result.interval
    return Pair(a, b, seeds, float(differences.mean()), test, p, None, over_seeds, over_examples, "")


def _decided(pair: Pair, p_adjusted: float | None, family: int, level: float) -> Pair:
    sentence = verdict(pair.a, pair.b, len(pair.seeds), pair.difference, pair.test, p_adjusted, family, level)
    return Pair(**{**pair.__dict__, "p_adjusted": p_adjusted, "verdict": sentence})


def verdict(
    a: str, b: str, seeds: int, difference: float, test: str, p_adjusted: float | None, family: int, level: float
) -> str:
    """The sentence that the number of seeds allows.

    Args:
        difference: a - b. test: its name, "none" if there is none. p_adjusted: Holm over `family` pairs.
        level: below it the difference counts as shown (0.05).
    """
    if p_adjusted is None:
        if seeds == 1:
            return "No claim: this metric has no per-example scores to test, and one seed cannot compare methods."
        return f"No claim: {seeds} seeds are too few to tell methods from chance; run {SEEDS_FOR_METHODS} or more."
    shown = p_adjusted < level
    better, worse = (a, b) if difference > 0 else (b, a)
    how = f"{abs(difference):.4f}; {test}, p {_p(p_adjusted)} after Holm over {family} pair{'s' if family != 1 else ''}"
    if seeds == 1:
        limit = "One seed says nothing about the methods."
        if shown:
            return f"These two models differ: {better} above {worse} by {how}. {limit}"
        return f"No difference shown between these two models, {a} and {b} ({how}). {limit}"
    if shown:
        return f"{better} is above {worse} over {seeds} seeds by {how}."
    return f"No difference shown between {a} and {b} over {seeds} seeds ({how})."


def _p(value: float) -> str:
    return "< 0.0001" if value < 1e-4 else f"= {value:.4f}"
