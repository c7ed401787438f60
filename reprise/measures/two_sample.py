"""Two-sample tests: do two sets of images come from one distribution? By permutation, so each level is exact.

Every test asks how often a random division of the same images into two sets of these sizes would differ as much as the
given one. Where images have groups (videos, patients), whole groups change sides, because the images of one group are
not independent. A p-value is (1 + divisions that differ as much) / (1 + divisions); it is at most a with probability at
most a where both sets come from one distribution, whatever that is and however few the images. Where 100 divisions have
differed as much, the test ends, and p is 100 / divisions so far, of which the same holds: many divisions are looked at
only where p is small.

With many images a difference that matters to nobody is found too, so each test returns the size of the difference as
well. Whoever decides should ask for both.

Source: Gretton, Borgwardt, Rasch, Schoelkopf, Smola, "A Kernel Two-Sample Test", JMLR 2012 (maximum mean discrepancy,
lemma 6, with a Gaussian kernel of the median distance); Lopez-Paz and Oquab, "Revisiting Classifier Two-Sample Tests",
ICLR 2017, with a linear classifier and the area under its curve in place of its accuracy, so that sets may differ in
size; Besag and Clifford, "Sequential Monte Carlo p-values", Biometrika 1991 (the early end).

Checked by: tests/reprise/measures/test_two_sample.py; docs/how-to/watch-for-drift.md.

Legend: n images of both sets, d dimensions, u units (groups, or images where there are none), P divisions.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

DIVISIONS = 999
_ENOUGH = 100  # divisions that differ as much; then p is known to a tenth of itself
_FINER = 10  # so far below the level the smallest adjusted p lies
_RIDGE = 0.1  # of the mean variance, added to the covariance of the classifier
_AT_ONCE = 64  # divisions looked at together
_ROWS = 128  # of a kernel, made together


class Difference(NamedTuple):
    """What a test found.

    Attributes:
        size: of the difference, in the unit that the test states.
        p: of a permutation test; 1 where nothing can be told.
    """

    size: float
    p: float


@dataclass(frozen=True)
class TwoSets:
    """Images of two sets, one after the other, and how they may be divided anew.

    Attributes:
        second: (n,) bool, which images are of the second set.
        units: (n,) integers, the same for images that change sides together; no unit lies in both sets.
        divisions: P.
        seed: of the divisions.
    """

    second: np.ndarray
    units: np.ndarray
    divisions: int = DIVISIONS
    seed: int = 0
    _of_unit: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        both, where = np.unique(self.units, return_inverse=True)
        sides = np.zeros(len(both), dtype=bool)
        sides[where] = self.second
        if not np.array_equal(sides[where], self.second):
            raise ValueError("a unit lies in both sets; make it two")
        object.__setattr__(self, "_of_unit", where.reshape(-1))

    def again(self) -> Iterator[np.ndarray]:
        """Divide the images P times anew, by whole units: (n,) bool each."""
        rng = np.random.default_rng([self.seed, len(self.second)])
        sides = np.zeros(int(self._of_unit.max()) + 1, dtype=bool)
        sides[self._of_unit] = self.second
        return (rng.permutation(sides)[self._of_unit] for _ in range(self.divisions))

    def test(self, statistic: Callable[[np.ndarray], np.ndarray]) -> Difference:
        """Compare the given division with random ones.

        Args:
            statistic: (P, n) bool -> (P,), the larger the more two sets differ.
        """
        if self.second.all() or not self.second.any():
            return Difference(0.0, 1.0)
        found = float(statistic(self.second[None])[0])
        divisions = self.again()
        as_much = looked_at = 0
        slack = 1e-12 * max(1.0, abs(found))  # a sum in another order is no difference
        while part := list(itertools.islice(divisions, _AT_ONCE)):
            differ = np.flatnonzero(statistic(np.stack(part)) >= found - slack)
            if as_much + len(differ) >= _ENOUGH:
                return Difference(found, _ENOUGH / (looked_at + int(differ[_ENOUGH - as_much - 1]) + 1))
            as_much, looked_at = as_much + len(differ), looked_at + len(part)
        return Difference(found, (1 + as_much) / (1 + self.divisions))


def divisions_for(level: float, tests: int) -> int:
    """Return how many divisions let each of several tests fall below a level after Holm's adjustment.

    The smallest p is 1 / (1 + P), and Holm multiplies it by the number of tests; that stays ten times below the level.

    Args:
        level: of all tests together.
        tests: how many there are.
    """
    return max(DIVISIONS, math.ceil(_FINER * tests / level))


def units_of(second: np.ndarray, groups: list[str | None]) -> np.ndarray:
    """Number the units: the images of one group and set, and each image without a group for itself."""
    names: dict[tuple[bool, str | int], int] = {}
    found = [
        names.setdefault((bool(side), group if group is not None else place), len(names))
        for place, (side, group) in enumerate(zip(second, groups, strict=True))
    ]
    return np.array(found, dtype=np.int64)


def shares(sets: TwoSets, classes: np.ndarray) -> Difference:
    """Compare how often classes occur; the size is the total variation distance, in [0, 1].

    Args:
        sets: n images.
        classes: (n,) integers from 0.
    """
    number = int(classes.max()) + 1
    both = np.bincount(classes, minlength=number)

    def total_variation(second: np.ndarray) -> np.ndarray:
        found = np.empty(len(second))
        for place, chosen in enumerate(second):  # one at a time: K numbers each, however many classes there are
            counts = np.bincount(classes[chosen], minlength=number)
            size = counts.sum()
            found[place] = np.abs(counts / size - (both - counts) / (len(classes) - size)).sum() / 2
        return found

    return sets.test(total_variation)


def distributions(sets: TwoSets, values: np.ndarray) -> Difference:
    """Compare the distributions of a number; the size is Kolmogorov and Smirnov's largest distance, in [0, 1].

    Args:
        sets: n images.
        values: (n,).
    """
    order = np.argsort(values, kind="stable")
    last = np.append(np.diff(values[order]) > 0, True)  # of equal values; only there both curves are compared

    def largest_distance(second: np.ndarray) -> np.ndarray:
        sides = second[:, order]
        curve = np.cumsum(sides, axis=1) / sides.sum(axis=1, keepdims=True)
        other = np.cumsum(~sides, axis=1) / (~sides).sum(axis=1, keepdims=True)
        return np.abs(curve - other)[:, last].max(axis=1)

    return sets.test(largest_distance)


def mean_discrepancy(sets: TwoSets, features: np.ndarray) -> Difference:
    """Compare the distributions of vectors; the size is the squared maximum mean discrepancy, unbiased.

    Args:
        sets: n images; memory grows with n squared (5 bytes a pair of images: 4,000 take 76 MB).
        features: (n, d).
    """
    kernel = _gaussian_kernel(features)
    whole = kernel.sum(axis=1, dtype=np.float64)

    def discrepancy(second: np.ndarray) -> np.ndarray:
        a, b = second.astype(np.float32), (~second).astype(np.float32)
        m, k = a.sum(axis=1, dtype=np.float64), b.sum(axis=1, dtype=np.float64)
        to_a = a @ kernel
        to_b = whole - to_a
        within_a = (to_a * a).sum(axis=1, dtype=np.float64) / np.maximum(m * (m - 1), 1)
        within_b = (to_b * b).sum(axis=1, dtype=np.float64) / np.maximum(k * (k - 1), 1)
        return within_a + within_b - 2 * (to_a * b).sum(axis=1, dtype=np.float64) / (m * k)

    return sets.test(discrepancy)


def classified(sets: TwoSets, features: np.ndarray) -> Difference:
    """Ask a linear classifier which set an image is of; the size is the area under its curve on held-out images.

    The classifier (a linear discriminant) learns from half of the units of each set and is judged on the others, whose
    sides alone are permuted. The size is 0.5 where it guesses, and 1 where it is always right.

    Args:
        sets: n images.
        features: (n, d).
    """
    from scipy.stats import rankdata

    learns = _half(sets)
    held = ~learns
    if any(len(np.unique(sets.second[half])) < 2 for half in (learns, held)):
        return Difference(0.5, 1.0)
    scores = features[held].astype(np.float64) @ _discriminant(features[learns], sets.second[learns])
    ranks = rankdata(scores)

    def area(second: np.ndarray) -> np.ndarray:
        m = second.sum(axis=1)
        return ((second * ranks).sum(axis=1) - m * (m + 1) / 2) / (m * (len(ranks) - m))

    return TwoSets(sets.second[held], sets.units[held], sets.divisions, sets.seed).test(area)


def _gaussian_kernel(features: np.ndarray) -> np.ndarray:
    """Return (n, n) float32 with zeros in the diagonal; the width is the median distance."""
    x = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    length = (x**2).sum(axis=1)
    n, places = len(x), np.arange(len(x))

    def squares(start: int) -> np.ndarray:
        rows = slice(start, start + _ROWS)
        return np.maximum(length[rows, None] + length[None, :] - 2 * x[rows] @ x.T, 0)

    off, filled = np.empty(n * (n - 1) // 2, dtype=np.float32), 0  # half of the pairs, in blocks of rows
    for start in range(0, n, _ROWS):
        above = squares(start)[places[None, :] > places[start : start + _ROWS, None]]
        off[filled : filled + len(above)] = above
        filled += len(above)
    width = float(np.median(off, overwrite_input=True)) or 1.0
    del off
    kernel = np.empty((n, n), dtype=np.float32)
    for start in range(0, n, _ROWS):
        kernel[start : start + _ROWS] = np.exp(-squares(start) / width)
    np.fill_diagonal(kernel, 0)
    return kernel


def _half(sets: TwoSets) -> np.ndarray:
    """Choose half of the units of each set: (n,) bool."""
    rng = np.random.default_rng([sets.seed, 1])
    chosen = np.zeros(len(sets.second), dtype=bool)
    for side in (False, True):
        units = np.unique(sets.units[sets.second == side])
        chosen |= np.isin(sets.units, rng.permutation(units)[: (len(units) + 1) // 2])
    return chosen


def _discriminant(features: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the direction (d,) of a linear discriminant with a ridge."""
    x = features.astype(np.float64)
    means = [x[second == side].mean(axis=0) for side in (False, True)]
    centred = np.concatenate([x[second == side] - means[side] for side in (False, True)])
    covariance = centred.T @ centred / max(1, len(centred) - 2)
    ridge = _RIDGE * max(float(np.trace(covariance)) / len(covariance), 1e-12)
    return np.asarray(np.linalg.solve(covariance + ridge * np.eye(len(covariance)), means[1] - means[0]))
