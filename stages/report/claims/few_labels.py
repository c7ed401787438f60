"""Runs over the share of labels: what each is worth where few images are labelled.

The figures are those of a linear probe on frozen features: `label_fraction` fits it on shares of the labels, `linear`
on all of them. Runs are compared with the references as the rule of verdicts says (docs/explanation/statistics.md): by
a paired t test over three seeds or more, with Holm's correction over all runs, references and shares together. Answers
to single images are not kept for each draw of labels, so one seed shows figures and claims nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from reprise.artifacts.budgets import differences, labels_read
from reprise.config.tables import TRUTH
from reprise.measures.statistics import Pair, compare, holm
from stages.report.claims.references import pretrained_runs, reference_runs, reference_words
from stages.report.readers.runs import Run
from stages.report.text import join_words, one_line

_SHARE = re.compile(r"label_fraction\.top1_(\d+(?:_\d+)?)_percent")  # 0_5 is 0.5
_ALL = "linear.top1"


@dataclass(frozen=True)
class Gap:
    """A pretrained run compared with a reference at one share of the labels.

    Args:
        run, reference: names of the runs.
        percent: of the labels, in (0, 100].
        difference: of the accuracies, run minus reference, a mean over seeds.
        low, high: its interval over seeds.
        p: after Holm's correction.
        differs: whether the test shows a difference.
    """

    run: str
    reference: str
    percent: float
    difference: float
    low: float | None
    high: float | None
    p: float
    differs: bool


class Sides(NamedTuple):
    """The shares of labels, in percent, at which a run is above a reference, below it, or neither was shown."""

    above: tuple[float, ...]
    below: tuple[float, ...]
    level: tuple[float, ...]


def shares_of(runs: Sequence[Run]) -> dict[float, str]:
    """Map the shares of labels, in percent and rising, to their metrics; empty where no share was measured."""
    names = {name for run in runs for seed in run.seeds for name in seed.figures}
    found = {float(match[1].replace("_", ".")): name for name in names if (match := _SHARE.fullmatch(name))}
    if found and _ALL in names:
        found.setdefault(100.0, _ALL)
    return dict(sorted(found.items()))


def gaps(runs: Sequence[Run], confidence: float) -> tuple[Gap, ...]:
    """Compare every pretrained run with every reference at every share; none where there are too few seeds.

    A run that has read labels itself, or goes on from one that has, is left out: it saw more than the share.

    Args:
        runs: of the page.
        confidence: level of the intervals; 1 minus it is that of the tests.
    """
    pretrained = [run for run in pretrained_runs(runs) if TRUTH not in labels_read(run.first.config)]
    pairs: dict[tuple[str, str, float], Pair] = {}
    for percent, metric in shares_of(runs).items():
        for reference in reference_runs(runs):
            for run in pretrained:
                both = {"reference": _by_seed(reference, metric), "run": _by_seed(run, metric)}
                for pair in compare(both, confidence=confidence):  # one, or none where they share no seed
                    if pair.p is not None:
                        pairs[run.name, reference.name, percent] = pair
    adjusted = holm([pair.p or 0.0 for pair in pairs.values()])
    return tuple(
        Gap(run, reference, percent, pair.difference, *pair.over_seeds, p, p < 1 - confidence)
        for ((run, reference, percent), pair), p in zip(pairs.items(), adjusted, strict=True)
    )


def over_labels(runs: Sequence[Run], confidence: float) -> str:
    """Say at which shares of the labels pretraining was worth it, against each reference.

    Returns:
        A sentence that ends with a space; empty where nothing was tested.
    """
    by_pair: dict[tuple[str, str], list[Gap]] = {}
    for gap in gaps(runs, confidence):
        by_pair.setdefault((gap.reference, gap.run), []).append(gap)
    configs = {run.name: run.first.config for run in runs}
    alike: dict[tuple[str, Sides, bool], list[str]] = {}  # runs of which the same holds at the same shares
    for (reference, run), found in by_pair.items():
        sides = Sides(*(tuple(g.percent for g in found if _side(g) == side) for side in Sides._fields))
        unequal = bool(differences(configs[reference], configs[run]))
        alike.setdefault((reference, sides, unequal), []).append(one_line(run))
    clauses = [
        _clause(names, f"{reference_words(configs[reference])} ({one_line(reference)})", sides)
        + (", at unequal budgets" if unequal else "")
        for (reference, sides, unequal), names in alike.items()
    ]
    return f"By the linear probe over shares of the labels, {'; '.join(clauses)}. " if clauses else ""


def percent_words(percents: Sequence[float]) -> str:
    """Write "1 %, 10 % and 100 %"."""
    return join_words([f"{percent:g} %" for percent in percents], 20)


def _clause(names: list[str], reference: str, sides: Sides) -> str:
    shown = {"above": sides.above, "below": sides.below}
    parts = [f"{side} {reference} at {percent_words(percents)}" for side, percents in shown.items() if percents]
    at = percent_words(sides.level)
    if not parts:
        return f"no difference was shown between {join_words(names)} and {reference} at {at}"
    claim = f"{join_words(names)} {'are' if len(names) > 1 else 'is'} {' and '.join(parts)}"
    return f"{claim}, and no difference was shown at {at}" if sides.level else claim


def _side(gap: Gap) -> str:
    return "level" if not gap.differs else "above" if gap.difference > 0 else "below"


def _by_seed(run: Run, metric: str) -> dict[int, float]:
    return {seed.seed: seed.figures[metric].value for seed in run.seeds if metric in seed.figures}
