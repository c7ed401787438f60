"""Champion against challenger: may the folder as it is replace what a git revision measured?

Decide on val (`knn.top1_val`), never on the test split: a gate that looks at test scores ranks by them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.compare.revisions import WORKSPACE, Measured, measured
from pipeline.compare.runs import difference_interval
from reprise.config.errors import ResultError
from reprise.measures.statistics import SEEDS_FOR_METHODS, Interval, paired_t


@dataclass(frozen=True)
class Ruling:
    """One run: challenger - champion, its interval, what that interval is over, and whether it passes."""

    run: str
    champion: float
    challenger: float
    interval: Interval
    over: str
    passed: bool


@dataclass(frozen=True)
class Judgement:
    """All rulings; the gate passes when every run does."""

    metric: str
    champion: str
    margin: float
    rulings: tuple[Ruling, ...]

    @property
    def passed(self) -> bool:
        """Whether no run is worse than allowed."""
        return all(ruling.passed for ruling in self.rulings)

    def lines(self) -> list[str]:
        """A line for each run, and the rule."""
        found = []
        for r in self.rulings:
            ends = (
                "no interval"
                if r.interval.low is None
                else f"[{r.interval.low:+.4f}, {r.interval.high:+.4f}] over {r.over}"
            )
            word = "passes" if r.passed else "FAILS"
            change = f"{r.champion:.4f} -> {r.challenger:.4f}, {r.challenger - r.champion:+.4f}"
            found.append(f"{r.run}: {self.metric} {change} {ends}: {word}")
        rule = f"a run fails when it is below {self.champion} by more than {self.margin:g} and the whole interval is"
        return [*found, f"gate {'passed' if self.passed else 'failed'}: {rule}"]


def judge(
    metric: str, *, champion: str = "HEAD", runs: Sequence[str] = (), margin: float = 0.0, root: Path = Path()
) -> Judgement:
    """Compare a metric, of which more is better, at a revision with the folder as it is.

    Args:
        runs: those to look at; none: all that both have.
        margin: a loss up to this is accepted.

    Raises:
        GraphError: no such revision. ResultError: a side lacks the metric for a run that was asked for.
    """
    before, after = measured(champion, root), measured(WORKSPACE, root)
    both = [run for run in after.means if metric in after.means[run] and metric in before.means.get(run, {})]
    missing = [run for run in runs if run not in both]
    if missing or not both:
        known = sorted({name for side in (before, after) for values in side.means.values() for name in values})
        raise ResultError(
            f"there is nothing to judge for '{metric}'",
            where=f"{champion} and the folder",
            found=f"no common figure of {', '.join(missing) or 'any run'}",
            fix=f"Use a metric and runs that both have; metrics: {', '.join(known)}.",
        )
    rulings = tuple(_rule(run, metric, before, after, margin) for run in runs or both)
    return Judgement(metric, champion, margin, rulings)


def _rule(run: str, metric: str, before: Measured, after: Measured, margin: float) -> Ruling:
    old, new = before.means[run][metric], after.means[run][metric]
    interval, over = _interval(run, metric, before, after)
    bound = new - old if interval.high is None else interval.high
    return Ruling(run, old, new, interval, over, passed=bound >= -margin)


def _interval(run: str, metric: str, before: Measured, after: Measured) -> tuple[Interval, str]:
    """Over seeds where three or more are common, else over examples of a common seed, else none."""
    old, new = before.seeds.get(metric, {}).get(run, {}), after.seeds.get(metric, {}).get(run, {})
    common = sorted(set(old) & set(new))
    if len(common) >= SEEDS_FOR_METHODS:
        return paired_t([new[s].value - old[s].value for s in common]).interval, f"{len(common)} seeds"
    if len(common) == 1 and len(old) == len(new) == 1:
        return difference_interval(old[common[0]], new[common[0]]), "examples"
    return Interval(None, None), "nothing"
