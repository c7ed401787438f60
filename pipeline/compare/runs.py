"""Compare the runs of two revisions: values, differences, intervals, and the verdict that the seeds allow.

The tests and sentences are those of the report (reprise/measures/statistics.py). Here each run is compared with
itself at another revision; the family for Holm's correction is the runs that both revisions have, on one metric.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.compare.freshness import old_figures
from pipeline.compare.revisions import WORKSPACE, Figure, Measurements, read_measurements
from reprise.artifacts.budgets import differences
from reprise.config.errors import ParameterError, ResultError
from reprise.config.params import read_yaml
from reprise.measures.statistics import CONFIDENCE, Interval, Pair, compare, holm, verdict

ACCURACY = "top1"  # the metric whose answers per example are kept


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
    """

    run: str
    metric: str
    base: float | None
    other: float | None
    base_interval: Interval
    other_interval: Interval
    pair: Pair | None
    verdict: str

    @property
    def difference(self) -> float | None:
        """Return other - base, or None if a revision lacks the metric."""
        return None if self.base is None or self.other is None else self.other - self.base


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
        """Return the rows of a table: run, metric, base, other, difference, verdict."""
        return [
            [
                change.run,
                change.metric,
                _format(change.base, change.base_interval),
                _format(change.other, change.other_interval),
                "" if change.difference is None else f"{change.difference:+.4f}",
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
    family = metric or read_family(root)
    before, after = (read_measurements(name, root, answers=True) for name in (base, other))
    known = {name for each in (before, after) for values in each.means.values() for name in values}
    if metric and metric not in known:
        raise ResultError(
            "neither revision has this metric",
            where=f"{base}, {other}",
            found=metric,
            fix=f"Use one of: {', '.join(sorted(known))}.",
        )
    old = old_figures(root) if WORKSPACE in (base, other) else {}
    before, after = (without(each, old) if each.name == WORKSPACE else each for each in (before, after))
    tested = verdicts(before, after, family)
    changes = []
    for run in dict.fromkeys([*before.means, *after.means]):
        for name in sorted({*before.means.get(run, {}), *after.means.get(run, {})}):
            if metric in (None, name):
                pair, sentence = tested.get(run, (None, "")) if name == family else (None, "")
                why = old.get("") or old.get(run)
                sentence = f"not computed from the present parameters, data and code: {why}" if why else sentence
                sentence = "; ".join(part for part in (sentence, _unequal(run, before, after)) if part)
                changes.append(_change(run, name, before, after, pair, sentence))
    return Comparison(base, other, tuple(changes))


def without(measured: Measurements, old: Mapping[str, str]) -> Measurements:
    """Leave out the figures of some runs.

    Args:
        measured: the figures of the folder.
        old: the runs whose figures are not current; "" stands for all (pipeline/compare/freshness.py).
    """
    kept = {run: values for run, values in measured.means.items() if "" not in old and run not in old}
    seeds = {name: {r: v for r, v in by_run.items() if r in kept} for name, by_run in measured.seeds.items()}
    answers = {key: value for key, value in measured.answers.items() if key[0] in kept}
    return Measurements(measured.name, kept, seeds, answers, measured.budgets)


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
        labelled = {f"{run} at {each.name}": each for each in (before, after)}
        if len(labelled) < 2:  # a revision compared with itself
            continue
        values = {
            label: {seed: f.value for seed, f in each.seeds[metric][run].items()} for label, each in labelled.items()
        }
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
            verdict(
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


def difference_interval(champion: Figure, challenger: Figure) -> Interval:
    """Return an interval of challenger - champion from the interval of each (Newcombe 1998, method 10).

    The method is for independent figures. For two scores on the same images the interval is too wide, so it errs on
    the side of caution.
    """
    ends = (champion.low, champion.high, challenger.low, challenger.high)
    if any(end is None for end in ends):
        return Interval(None, None)
    low0, high0, low1, high1 = (float(end) for end in ends if end is not None)
    difference = challenger.value - champion.value
    below = math.hypot(challenger.value - low1, high0 - champion.value)
    above = math.hypot(high1 - challenger.value, champion.value - low0)
    return Interval(difference - below, difference + above)


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
    return Change(
        run,
        metric,
        before.means.get(run, {}).get(metric),
        after.means.get(run, {}).get(metric),
        _interval(before.seeds.get(metric, {}).get(run, {}).values()),
        _interval(after.seeds.get(metric, {}).get(run, {}).values()),
        pair,
        sentence,
    )


def _interval(figures: Iterable[Figure]) -> Interval:
    """Return the interval over examples of a single seed; several seeds have several, which only the report shows."""
    by_seed = list(figures)
    return Interval(by_seed[0].low, by_seed[0].high) if len(by_seed) == 1 else Interval(None, None)


def _format(value: float | None, interval: Interval) -> str:
    if value is None:
        return "-"
    if interval.low is None or interval.high is None:
        return f"{value:.4f}"
    return f"{value:.4f} [{interval.low:.4f}, {interval.high:.4f}]"
