"""Compare the runs of two revisions: values, differences, intervals, and the verdict that the seeds allow.

The tests and sentences are those of the report (reprise/measures/statistics.py). Here each run is compared with
itself at another revision; the family for Holm's correction is the runs that both revisions have, on one metric.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.compare.freshness import old_figures
from pipeline.compare.revisions import WORKSPACE, Figure, Measurements, read_measurements
from reprise.artifacts.budgets import differences
from reprise.config.errors import ParameterError, ResultError
from reprise.config.params import read_yaml
from reprise.measures.statistics import (
    CONFIDENCE,
    NO_INTERVAL,
    SEEDS_FOR_METHODS,
    Interval,
    Pair,
    compare,
    holm,
    paired_t,
    verdict,
)

ACCURACY = "top1"  # the metric whose answers per example are kept
NOTHING = "nothing"  # where a difference has no interval
UNPAIRED = "examples, unpaired"  # from the interval of each side, since their answers to each example are not kept
_UNPAIRED = "No claim: the answers are to other images, and one seed cannot compare methods."
_TESTABLE = 1e100  # larger values overflow in a test
_LARGE = 1e9  # from here on figures are written in powers of ten


@dataclass(frozen=True)
class Change:
    """One run and metric at two revisions.

    Attributes:
        run: name of the run.
        metric: "probe.metric".
        base: mean over seeds at the base revision, or None if it does not have the metric.
        other: mean over seeds at the other revision, or None.
        base_interval: interval over examples, for a single seed.
        other_interval: interval over examples, for a single seed.
        pair: the statistical comparison, if one was made.
        verdict: a sentence, or an empty string.
        interval: interval of the difference, where there is one.
        over: what that interval is computed over: "3 seeds", "examples", "examples, unpaired", or "nothing".
    """

    run: str
    metric: str
    base: float | None
    other: float | None
    base_interval: Interval
    other_interval: Interval
    pair: Pair | None
    verdict: str
    interval: Interval = NO_INTERVAL
    over: str = NOTHING

    @property
    def difference(self) -> float | None:
        """Return other - base, or None if a revision lacks the metric or a value is no finite number."""
        if self.base is None or self.other is None or not math.isfinite(self.other - self.base):
            return None
        return self.other - self.base


@dataclass(frozen=True)
class Comparison:
    """All changes between two revisions.

    Attributes:
        base: the first revision.
        other: the second revision.
        changes: one change per run and metric.
    """

    base: str
    other: str
    changes: tuple[Change, ...]

    def rows(self) -> list[list[str]]:
        """Return the rows of a table: run, metric, base, other, difference, its interval, verdict."""
        return [
            [
                change.run,
                change.metric,
                with_interval(change.base, change.base_interval),
                with_interval(change.other, change.other_interval),
                "" if change.difference is None else in_digits(change.difference, sign=True),
                interval_in_words(change.interval, change.over),
                change.verdict,
            ]
            for change in self.changes
        ]


def compare_revisions(
    base: str, other: str = WORKSPACE, *, metric: str | None = None, root: Path = Path()
) -> Comparison:
    """Compare every run and metric of two revisions.

    Args:
        base: git revision, or "workspace".
        other: git revision, or "workspace".
        metric: the only "probe.metric" to compare; None compares all. Verdicts are given for this metric, or else for
            the one that `summary.family` names in params.yaml: testing every metric would find differences by chance.
        root: the project folder.

    Raises:
        GraphError: git does not know a revision.
        ResultError: a revision holds no metrics, or neither holds `metric`.
    """
    family = read_family(root)
    before, after = (read_measurements(name, root, answers=True) for name in (base, other))
    old = old_figures(root) if WORKSPACE in (base, other) else {}
    before, after = (without(each, old) if each.name == WORKSPACE else each for each in (before, after))
    return compare_measurements(before, after, family, metric=metric, old=old)


def compare_measurements(
    before: Measurements,
    after: Measurements,
    family: str,
    *,
    metric: str | None = None,
    old: Mapping[str, str] | None = None,
) -> Comparison:
    """Compare every run and metric of two measurements.

    Args:
        before: the first one.
        after: the second one.
        family: the metric that is tested unless `metric` names another.
        metric: the only metric to compare; None compares all.
        old: the runs whose figures were left out because they are not current, and why; "" stands for all.

    Raises:
        ResultError: neither has `metric`.
    """
    known = {name for each in (before, after) for values in each.means.values() for name in values}
    if metric and metric not in known:
        raise ResultError(
            "neither revision has this metric",
            where=f"{before.name}, {after.name}",
            found=metric,
            fix=f"Use one of: {', '.join(sorted(known))}.",
        )
    family, old = metric or family, old or {}
    tested = verdicts(before, after, family)
    changes = []
    for run in dict.fromkeys([*before.means, *after.means]):
        for name in sorted({*before.means.get(run, {}), *after.means.get(run, {})}):
            if metric in (None, name):
                pair, sentence = tested.get(run, (None, "")) if name == family else (None, "")
                why = old.get("") or old.get(run)
                sentence = f"not computed from the present parameters, data and code: {why}" if why else sentence
                unequal = _unequal(run, before, after)
                sentence = f"{sentence.removesuffix('.')}; {unequal}" if sentence and unequal else sentence or unequal
                changes.append(_change(run, name, before, after, pair, sentence))
    return Comparison(before.name, after.name, tuple(changes))


def without(measured: Measurements, old: Mapping[str, str]) -> Measurements:
    """Leave out the figures of some runs.

    Args:
        measured: the figures of the folder.
        old: the runs whose figures are not current; "" stands for all (pipeline/compare/freshness.py).
    """
    kept = {run: values for run, values in measured.means.items() if "" not in old and run not in old}
    seeds = {name: {r: v for r, v in by_run.items() if r in kept} for name, by_run in measured.seeds.items()}
    answers = {key: value for key, value in measured.answers.items() if key[0] in kept}
    return replace(measured, means=kept, seeds=seeds, answers=answers)


def read_family(root: Path = Path()) -> str:
    """Return the metric that `summary.family` names in params.yaml: the one that is tested."""
    family = (read_yaml(root / "params.yaml").get("summary") or {}).get("family", "knn.top1")
    if not isinstance(family, str):
        raise ParameterError(
            "the family must be the name of a metric", where="summary.family", found=family, fix="Write knn.top1."
        )
    return family


def verdicts(
    before: Measurements, after: Measurements, metric: str, confidence: float = CONFIDENCE
) -> dict[str, tuple[Pair, str]]:
    """Test the difference of each run that both revisions have, with Holm's correction over these runs.

    Args:
        before: measurements of the base revision.
        after: measurements of the other revision.
        metric: "probe.metric".
        confidence: level of the intervals, in (0, 1).

    Returns:
        run -> (comparison, sentence).
    """
    probe, _, name = metric.partition(".")
    pairs: dict[str, Pair] = {}
    runs = [run for run in after.seeds.get(metric, {}) if run in before.seeds.get(metric, {})]
    for run in runs:
        labelled = {each.name if each.of_one_run else f"{run} at {each.name}": each for each in (before, after)}
        if len(labelled) < 2:  # a revision compared with itself
            continue
        values = {
            label: {seed: f.value for seed, f in each.seeds[metric][run].items()} for label, each in labelled.items()
        }
        if not all(can_be_tested(by_seed.values()) for by_seed in values.values()):
            continue
        seeds = set.intersection(*(set(v) for v in values.values()))
        scores, groups = _paired_answers(labelled, run, sorted(seeds), probe) if name == ACCURACY else (None, None)
        compared = compare(values, scores, groups, confidence)
        if compared:
            pairs[run] = compared[0]
    tested = [run for run, pair in pairs.items() if pair.p is not None]
    adjusted = dict(zip(tested, holm([pairs[run].p or 0.0 for run in tested]), strict=True))
    return {
        run: (
            pair,
            _UNPAIRED
            if pair.p is None and len(pair.seeds) == 1 and _answered(before, after, run, pair.seeds[0], metric)
            else verdict(
                pair.a,
                pair.b,
                len(pair.seeds),
                pair.difference,
                pair.test,
                adjusted.get(run),
                len(tested),
                1 - confidence,
            ),
        )
        for run, pair in pairs.items()
    }


def _answered(before: Measurements, after: Measurements, run: str, seed: int, metric: str) -> bool:
    """Return whether both have answers for each image to this metric, which then are of other images."""
    probe, _, name = metric.partition(".")
    return name == ACCURACY and all((run, seed, probe) in each.answers for each in (before, after))


def can_be_tested(values: Iterable[float]) -> bool:
    """Return whether values are finite numbers whose squares are, too: a test of others would say something untrue."""
    return all(abs(value) < _TESTABLE for value in values)


def difference_interval(champion: Figure, challenger: Figure) -> Interval:
    """Return an interval of challenger - champion from the interval of each (Newcombe 1998, method 10).

    The method is for independent figures. For two scores on the same images the interval is too wide, so it errs on
    the side of caution.
    """
    ends = (champion.low, champion.high, challenger.low, challenger.high)
    if any(end is None for end in ends):
        return NO_INTERVAL
    low0, high0, low1, high1 = (float(end) for end in ends if end is not None)
    difference = challenger.value - champion.value
    below = math.hypot(challenger.value - low1, high0 - champion.value)
    above = math.hypot(high1 - challenger.value, champion.value - low0)
    return Interval(difference - below, difference + above)


def interval_of_difference(base: Mapping[int, Figure], other: Mapping[int, Figure]) -> tuple[Interval, str]:
    """Return the interval of other - base, and what it is computed over.

    It is over seeds if both have three or more in common, over examples if each has the same single seed (unpaired, so
    too wide rather than too narrow), else empty.

    Args:
        base: seed -> figure.
        other: seed -> figure.
    """
    common = sorted(set(base) & set(other))
    differences_by_seed = [other[seed].value - base[seed].value for seed in common]
    if not can_be_tested(differences_by_seed):
        return NO_INTERVAL, NOTHING
    if len(common) >= SEEDS_FOR_METHODS:
        return paired_t(differences_by_seed).interval, f"{len(common)} seeds"
    if len(common) == 1 and len(base) == len(other) == 1:
        return difference_interval(base[common[0]], other[common[0]]), UNPAIRED
    return NO_INTERVAL, NOTHING


def _unequal(run: str, before: Measurements, after: Measurements) -> str:
    """Say in what the budgets of a run at two revisions differ; empty where they are equal or not known."""
    if run not in before.budgets or run not in after.budgets:
        return ""
    found = differences(before.budgets[run], after.budgets[run])
    return f"unequal budgets: {', '.join(found)}" if found else ""


def _paired_answers(
    labelled: dict[str, Measurements], run: str, seeds: Sequence[int], probe: str
) -> tuple[dict[str, dict[int, np.ndarray]] | None, np.ndarray | None]:
    """Return whether each answer is correct, by label and seed, and the group of each image.

    The answers pair only if every seed of both revisions answered the same images in the same order; otherwise both
    results are None. The groups are None if no image has one; an image without a group becomes a group of its own.
    """
    paired = {label: {s: each.answers.get((run, s, probe)) for s in seeds} for label, each in labelled.items()}
    flat = [answers for by_seed in paired.values() for answers in by_seed.values()]
    if not flat or any(a is None or a.keys != flat[0].keys for a in flat if flat[0] is not None) or flat[0] is None:
        return None, None
    scores = {label: {s: a.correct for s, a in by_seed.items() if a is not None} for label, by_seed in paired.items()}
    groups = flat[0].groups
    if all(group is None for group in groups):
        return scores, None
    own = [group if group is not None else f"\0{i}" for i, group in enumerate(groups)]
    return scores, np.unique(np.asarray(own, dtype=object).astype(str), return_inverse=True)[1]


def _change(
    run: str, metric: str, before: Measurements, after: Measurements, pair: Pair | None, sentence: str
) -> Change:
    old, new = (each.seeds.get(metric, {}).get(run, {}) for each in (before, after))
    interval, over = interval_of_difference(old, new)
    if pair is not None and pair.over_seeds.low is None and pair.over_examples.low is not None:
        interval, over = pair.over_examples, "examples"  # paired by image, which is narrower than from two intervals
    return Change(
        run,
        metric,
        before.means.get(run, {}).get(metric),
        after.means.get(run, {}).get(metric),
        _of_one_seed(old.values()),
        _of_one_seed(new.values()),
        pair,
        sentence,
        interval,
        over,
    )


def _of_one_seed(figures: Iterable[Figure]) -> Interval:
    """Return the interval over examples of a single seed; several seeds have several, which only the report shows."""
    by_seed = list(figures)
    return Interval(by_seed[0].low, by_seed[0].high) if len(by_seed) == 1 else NO_INTERVAL


def in_digits(value: float, *, sign: bool = False) -> str:
    """Write a figure with four decimals; in powers of ten where it is so large that they would say nothing."""
    form = ".4f" if abs(value) < _LARGE else ".4e"
    return f"{value:{'+' if sign else ''}{form}}"


def with_interval(value: float | None, interval: Interval) -> str:
    """Write a figure with its interval: "0.8000 [0.7700, 0.8300]"; "-" where there is none."""
    if value is None:
        return "-"
    if interval.low is None or interval.high is None:
        return in_digits(value)
    return f"{in_digits(value)} [{in_digits(interval.low)}, {in_digits(interval.high)}]"


def loss_exceeds(margin: float, difference: float, intervals: Iterable[Interval]) -> bool:
    """Return whether a figure is shown to have lost more than is accepted.

    It is, where one of the intervals lies below -margin as a whole. Where none has ends, the difference decides.

    Args:
        margin: accepted loss.
        difference: challenger - champion.
        intervals: of that difference.
    """
    return min((each.high for each in intervals if each.high is not None), default=difference) < -margin


def intervals_in_words(over: Mapping[str, Interval]) -> str:
    """Write the intervals of one difference by what each is over; "no interval" where none has ends."""
    found = (interval_in_words(interval, units) for units, interval in over.items())
    return " and ".join(filter(None, found)) or "no interval"


def interval_in_words(interval: Interval, over: str) -> str:
    """Write the interval of a difference: "[-0.0624, +0.0224] over examples"; empty where there is none."""
    if interval.low is None or interval.high is None:
        return ""
    return f"[{in_digits(interval.low, sign=True)}, {in_digits(interval.high, sign=True)}] over {over}"
