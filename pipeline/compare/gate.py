"""Judge whether the folder as it is (the challenger) may replace a git revision (the champion).

The gate should use a metric on val, such as `knn.top1_val`. A gate that looks at test scores selects by them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.compare.freshness import refuse_old_figures
from pipeline.compare.revisions import WORKSPACE, Figure, Measurements, read_measurements
from pipeline.compare.runs import (
    UNPAIRED,
    can_be_tested,
    difference_interval,
    interval_of_difference,
    intervals_in_words,
    loss_exceeds,
)
from reprise.config.errors import ResultError
from reprise.measures.statistics import NO_INTERVAL, SEEDS_FOR_METHODS, Interval


@dataclass(frozen=True)
class Ruling:
    """The ruling on one run.

    Attributes:
        run: name of the run.
        champion: mean over seeds at the champion's revision.
        challenger: mean over seeds in the folder.
        interval: interval of challenger - champion.
        over: what the interval is computed over: "3 seeds", "examples, unpaired" or "nothing".
        over_examples: interval over examples of the same difference, whatever the number of seeds, if the metric has
            intervals.
        passed: whether the run passes.
    """

    run: str
    champion: float
    challenger: float
    interval: Interval
    over: str
    over_examples: Interval
    passed: bool


@dataclass(frozen=True)
class Judgement:
    """The rulings on all runs; the gate passes if every run passes.

    Attributes:
        metric: "probe.metric".
        champion: git revision.
        margin: accepted loss, in the metric's unit.
        rulings: one ruling per run.
    """

    metric: str
    champion: str
    margin: float
    rulings: tuple[Ruling, ...]

    @property
    def passed(self) -> bool:
        """Whether no run is worse than allowed."""
        return all(ruling.passed for ruling in self.rulings)

    def lines(self) -> list[str]:
        """Return a line for each run, and one with the outcome and the rule."""
        lines = []
        for r in self.rulings:
            ends = intervals_in_words({r.over: r.interval, UNPAIRED: r.over_examples})
            word = "passes" if r.passed else "FAILS"
            change = f"{r.champion:.4f} -> {r.challenger:.4f}, {r.challenger - r.champion:+.4f}"
            lines.append(f"{r.run}: {self.metric} {change} {ends}: {word}")
        rule = f"a run fails if it lies more than {self.margin:g} below {self.champion} with a whole interval"
        return [*lines, f"gate {'passed' if self.passed else 'failed'}: {rule}"]


def judge(
    metric: str, *, champion: str = "HEAD", runs: Sequence[str] = (), margin: float = 0.0, root: Path = Path()
) -> Judgement:
    """Compare a metric at a revision with the same metric in the folder.

    Args:
        metric: "probe.metric", of which a larger value is better.
        champion: git revision.
        runs: runs to judge; none means all runs that both have.
        margin: accepted loss, in the metric's unit.
        root: the project folder.

    Raises:
        GraphError: git does not know the revision.
        ResultError: the revision or the folder lacks the metric for one of `runs`, or for every run; or the folder's
            figures are not those of its present parameters, data and code.
    """
    before, after = read_measurements(champion, root), read_measurements(WORKSPACE, root)
    both = [run for run in after.means if metric in after.means[run] and metric in before.means.get(run, {})]
    missing = [run for run in runs if run not in both]
    if missing or not both:
        known = sorted({name for each in (before, after) for values in each.means.values() for name in values})
        raise ResultError(
            f"'{metric}' cannot be judged",
            where=f"{champion} and the folder",
            found=f"no common value for {', '.join(missing) or 'any run'}",
            fix=f"Use a metric and runs that both have; metrics: {', '.join(known)}.",
        )
    refuse_old_figures(runs or both, root)
    rulings = tuple(_rule(run, metric, before, after, margin) for run in runs or both)
    return Judgement(metric, champion, margin, rulings)


def _rule(run: str, metric: str, before: Measurements, after: Measurements, margin: float) -> Ruling:
    old, new = before.means[run][metric], after.means[run][metric]
    by_seed = [each.seeds.get(metric, {}).get(run, {}) for each in (before, after)]
    interval, over = interval_of_difference(*by_seed)
    over_examples = _over_examples(*by_seed)
    passed = not loss_exceeds(margin, new - old, (interval, over_examples))
    return Ruling(run, old, new, interval, over, over_examples, passed)


def _over_examples(before: Mapping[int, Figure], after: Mapping[int, Figure]) -> Interval:
    """Return an interval over examples of the mean difference of the seeds that both have.

    The examples of the seeds are the same ones, so averaging takes away none of the chance in which examples there are:
    the mean of the seeds' figures gets the mean of their ends. That is too wide where seeds err on different examples.
    """
    common = sorted(set(before) & set(after))
    figures = [[by_seed[seed] for seed in common] for by_seed in (before, after)]
    same = len(common) == len(before) == len(after)  # or the difference would be another one than that of the means
    if (
        not common
        or not (same or len(common) >= SEEDS_FOR_METHODS)
        or any(each.low is None or each.high is None for side in figures for each in side)
        or not can_be_tested(float(x or 0) for side in figures for each in side for x in each)
    ):
        return NO_INTERVAL
    champion, challenger = (Figure(*(float(x) for x in np.mean(np.array(side, float), axis=0))) for side in figures)
    return difference_interval(champion, challenger)
