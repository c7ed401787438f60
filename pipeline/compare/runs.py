"""Runs at two revisions side by side: values, differences, intervals, and the verdict that the seeds allow.

The tests and sentences are those of the report (reprise/measures/statistics.py): here each run is compared with
itself at another revision, and Holm's family is the runs that both revisions have, on one metric.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.compare.revisions import WORKSPACE, Figure, Measured, measured
from reprise.config.errors import ParameterError, ResultError
from reprise.config.params import read_yaml
from reprise.measures.statistics import CONFIDENCE, Interval, Pair, compare, holm, verdict

ACCURACY = "top1"  # the metric whose per-example answers are kept


@dataclass(frozen=True)
class Change:
    """One run and metric at two revisions; a side is None where that revision does not have it."""

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
        """other - base."""
        return None if self.base is None or self.other is None else self.other - self.base


@dataclass(frozen=True)
class Comparison:
    """All changes between two revisions."""

    base: str
    other: str
    changes: tuple[Change, ...]

    def rows(self) -> list[list[str]]:
        """For a table: run, metric, base, other, difference, verdict."""
        return [
            [
                change.run,
                change.metric,
                _shown(change.base, change.base_interval),
                _shown(change.other, change.other_interval),
                "" if change.difference is None else f"{change.difference:+.4f}",
                change.verdict,
            ]
            for change in self.changes
        ]


def compare_revisions(
    base: str, other: str = WORKSPACE, *, metric: str | None = None, root: Path = Path()
) -> Comparison:
    """Every run and metric at two revisions.

    Args:
        metric: "probe.name"; only this one. Verdicts are given for it, or else for the family that
            params.yaml states (`summary.family`): testing every metric would find differences by chance.

    Raises:
        GraphError: no such revision. ResultError: one of them holds no metrics, or not that metric.
    """
    family = metric or stated_family(root)
    before, after = (measured(name, root, answers=True) for name in (base, other))
    known = {name for side in (before, after) for values in side.means.values() for name in values}
    if metric and metric not in known:
        raise ResultError(
            "no such metric", where=f"{base}, {other}", found=metric, fix=f"Use one of: {', '.join(sorted(known))}."
        )
    tested = verdicts(before, after, family)
    changes = []
    for run in dict.fromkeys([*before.means, *after.means]):
        for name in sorted({*before.means.get(run, {}), *after.means.get(run, {})}):
            if metric in (None, name):
                pair, sentence = tested.get(run, (None, "")) if name == family else (None, "")
                changes.append(_change(run, name, before, after, pair, sentence))
    return Comparison(base, other, tuple(changes))


def stated_family(root: Path = Path()) -> str:
    """The metric that params.yaml states for tests."""
    family = (read_yaml(root / "params.yaml").get("summary") or {}).get("family", "knn.top1")
    if not isinstance(family, str):
        raise ParameterError("the family must be a metric", where="summary.family", found=family, fix="Write knn.top1.")
    return family


def verdicts(
    before: Measured, after: Measured, metric: str, confidence: float = CONFIDENCE
) -> dict[str, tuple[Pair, str]]:
    """run -> (pair of revisions, sentence), Holm over the runs that both revisions have."""
    probe, _, name = metric.partition(".")
    pairs: dict[str, Pair] = {}
    runs = [run for run in after.seeds.get(metric, {}) if run in before.seeds.get(metric, {})]
    for run in runs:
        sides = {f"{run} at {side.name}": side for side in (before, after)}
        if len(sides) < 2:
            continue
        values = {
            label: {seed: f.value for seed, f in side.seeds[metric][run].items()} for label, side in sides.items()
        }
        seeds = set.intersection(*(set(v) for v in values.values()))
        scores, groups = _paired_answers(sides, run, sorted(seeds), probe) if name == ACCURACY else (None, None)
        found = compare(values, scores, groups, confidence)
        if found:
            pairs[run] = found[0]
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
    """Interval of challenger - champion from the interval of each (Newcombe 1998, method 10).

    For independent figures; for two scores on the same images it is too wide, hence on the careful side.
    """
    ends = (champion.low, champion.high, challenger.low, challenger.high)
    if any(end is None for end in ends):
        return Interval(None, None)
    low0, high0, low1, high1 = (float(end) for end in ends if end is not None)
    difference = challenger.value - champion.value
    below = math.hypot(challenger.value - low1, high0 - champion.value)
    above = math.hypot(high1 - challenger.value, champion.value - low0)
    return Interval(difference - below, difference + above)


def _paired_answers(
    sides: dict[str, Measured], run: str, seeds: Sequence[int], probe: str
) -> tuple[dict[str, dict[int, np.ndarray]] | None, np.ndarray | None]:
    """Right-or-wrong per example of both sides in one order, and groups; None where they do not pair."""
    found = {label: {s: side.answers.get((run, s, probe)) for s in seeds} for label, side in sides.items()}
    flat = [answers for by_seed in found.values() for answers in by_seed.values()]
    if not flat or any(a is None or a.keys != flat[0].keys for a in flat if flat[0] is not None) or flat[0] is None:
        return None, None
    scores = {label: {s: a.correct for s, a in by_seed.items() if a is not None} for label, by_seed in found.items()}
    groups = flat[0].groups
    if all(group is None for group in groups):
        return scores, None
    own = [group if group is not None else f"\0{i}" for i, group in enumerate(groups)]
    return scores, np.unique(np.asarray(own, dtype=object).astype(str), return_inverse=True)[1]


def _change(run: str, metric: str, before: Measured, after: Measured, pair: Pair | None, sentence: str) -> Change:
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
    """Over examples, for a single seed; several seeds have several, which the report shows."""
    found = list(figures)
    return Interval(found[0].low, found[0].high) if len(found) == 1 else Interval(None, None)


def _shown(value: float | None, interval: Interval) -> str:
    if value is None:
        return "-"
    if interval.low is None or interval.high is None:
        return f"{value:.4f}"
    return f"{value:.4f} [{interval.low:.4f}, {interval.high:.4f}]"
