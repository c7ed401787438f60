"""What can be said without labels: does a trained backbone differ from the untrained one, and do its seeds agree?

Three measures, each with an interval over images: the share of an image's nearest neighbours that two encoders have in
common (mutual nearest neighbours: Huh et al. 2024, arXiv:2405.07987), how far changes of an image move its features
(the probe `invariance`), and, without an interval, the effective rank (the probe `spectrum`). With several seeds,
neighbours that the seeds have in common beyond those shared with the untrained network were learned, and learned again.
None of this says that a representation is better: that takes labels.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reprise.measures.statistics import CONFIDENCE, bootstrap_mean, difference_of_shares
from stages.report.claims.references import UNTRAINED, pretrained_runs
from stages.report.drawing.charts import Estimate
from stages.report.estimates import estimate
from stages.report.readers.comparison import Intervals
from stages.report.readers.nearest import NEIGHBOURS, Nearest, in_common
from stages.report.readers.runs import Run
from stages.report.text import join_words, number, one_line

MOVED, RANK = "invariance.all", "spectrum.rankme"
_MOST = 3  # runs that the sentences name
_ALIKE = 0.9  # share of neighbours in common above which training hardly changed anything


@dataclass(frozen=True)
class Compared:
    """A pretrained run compared with the untrained network.

    Args:
        run, untrained: names of the runs.
        images: number of images that neighbours were sought for.
        shared: share of the neighbours that run and untrained network have in common, seed by seed.
        agreement: share that two seeds of the run have in common; None with one seed.
        beyond: interval of agreement - shared over images; None at both ends with one seed.
        moved: how far all changes at once move the features, in distances between images: run, untrained network.
        calmer: interval of the difference of both, run minus untrained.
        rank: effective rank, RankMe: run, untrained network.
    """

    run: str
    untrained: str
    images: int
    shared: Estimate
    agreement: Estimate | None
    beyond: tuple[float | None, float | None]
    moved: tuple[Estimate, Estimate] | None
    calmer: tuple[float | None, float | None]
    rank: tuple[float, float] | None


def compare_without_labels(
    runs: Sequence[Run], nearest: Nearest | None, intervals: Intervals, confidence: float = CONFIDENCE
) -> tuple[Compared, ...]:
    """Compare every pretrained run with the untrained network; none where that was not run or nothing is embedded."""
    untrained = next((run for run in runs if run.first.config.get("method") == UNTRAINED), None)
    if untrained is None or nearest is None:
        return ()
    found = (_compared(run, untrained, nearest, intervals, confidence) for run in pretrained_runs(runs))
    return tuple(compared for compared in found if compared is not None)


def _compared(run: Run, untrained: Run, nearest: Nearest, intervals: Intervals, confidence: float) -> Compared | None:
    rows = {seed.seed: nearest.rows[run.name, seed.seed] for seed in run.seeds if (run.name, seed.seed) in nearest.rows}
    bases = {
        s.seed: nearest.rows[untrained.name, s.seed]
        for s in untrained.seeds
        if (untrained.name, s.seed) in nearest.rows
    }
    seeds = sorted(rows.keys() & bases.keys())
    if not seeds:
        return None
    with_untrained = [in_common(rows[seed], bases[seed]) for seed in seeds]
    between = [in_common(rows[a], rows[b]) for a, b in itertools.combinations(seeds, 2)]
    beyond: tuple[float | None, float | None] = (None, None)
    if between:
        beyond = bootstrap_mean(np.mean(between, axis=0) - np.mean(with_untrained, axis=0), nearest.groups, confidence)
    moved, calmer = _moved(run, untrained, intervals)
    ranks = [estimate(r, RANK, intervals) for r in (run, untrained)]
    return Compared(
        run.name,
        untrained.name,
        nearest.images,
        _over_images(with_untrained, nearest, confidence),
        _over_images(between, nearest, confidence) if between else None,
        beyond,
        moved,
        calmer,
        (ranks[0].value, ranks[1].value) if ranks[0] and ranks[1] else None,
    )


def _over_images(shares: Sequence[np.ndarray], nearest: Nearest, confidence: float) -> Estimate:
    """Average shares by image, (n,) for each pair of encoders, with an interval over images."""
    mean = np.mean(shares, axis=0)
    ends = bootstrap_mean(mean, nearest.groups, confidence)
    return Estimate("", float(mean.mean()), *ends, tuple(float(share.mean()) for share in shares))


def _moved(
    run: Run, untrained: Run, intervals: Intervals
) -> tuple[tuple[Estimate, Estimate] | None, tuple[float | None, float | None]]:
    """Compare how far changes move the features; the interval is for independent figures, so it is rather too wide."""
    own, base = estimate(run, MOVED, intervals), estimate(untrained, MOVED, intervals)
    if own is None or base is None:
        return None, (None, None)
    return (own, base), difference_of_shares(own.value, (own.low, own.high), base.value, (base.low, base.high))


def sentence_of(compared: Sequence[Compared]) -> list[str]:
    """Put the comparison into sentences, the most telling one first.

    Args:
        compared: one or more.
    """
    shown, untrained = compared[:_MOST], f"the untrained network ({one_line(compared[0].untrained)})"
    more = f" ({len(compared) - _MOST} more runs are in the table.)" if len(compared) > _MOST else ""
    several = [c for c in shown if c.agreement]
    learned = [c for c in several if (c.beyond[0] or 0) > 0]
    shares = join_words([f"{percent(c.shared)} for {one_line(c.run)}" for c in shown])
    changed = "hardly changed" if min(c.shared.value for c in shown) > _ALIKE else "changed"
    in_words = f"of an image's {NEIGHBOURS} nearest, those that {untrained} finds, too, are {shares}"
    if len(shown) == 1:
        in_words = f"{percent(shown[0].shared)} of an image's {NEIGHBOURS} nearest are those that {untrained} finds"
    sentences = [f"Training {changed} which images {_names(shown)} {_find(shown)} alike: {in_words}.{more}"]
    if several:
        pairs = join_words([f"{one_line(c.run)} {percent(c.agreement)}" for c in several if c.agreement])
        sentences.append(f"Two seeds of one run have in common: {pairs}.")
        if learned:
            sentences.append(
                f"The seeds of {_names(learned)} agree with each other beyond what they share with {untrained}, so "
                "what changed was learned, and learned again."
            )
        if others := [c for c in several if c not in learned]:
            sentences.append(
                f"The seeds of {_names(others)} do not agree with each other beyond what they share with {untrained}: "
                "nothing shows that training found the same structure twice."
            )
    else:
        sentences.append("There is one seed, so whether another one would learn the same is not known.")
    sentences += [s for s in (_invariance(shown, untrained), _ranks(shown, untrained)) if s]
    sentences.append("Whether a run is better cannot be said without labels.")
    return sentences


def _invariance(shown: Sequence[Compared], untrained: str) -> str:
    sides: dict[str, list[Compared]] = {"less": [], "more": []}
    for c in shown:
        low, high = c.calmer
        if low is not None and high is not None and (low > 0 or high < 0):
            sides["less" if high < 0 else "more"].append(c)
    return " ".join(_reaction(group, way, untrained) for way, group in sides.items() if group)


def _reaction(group: Sequence[Compared], way: str, untrained: str) -> str:
    pairs = [c.moved for c in group if c.moved]
    own = join_words([number(moved[0].value) for moved in pairs])
    verb = "react" if len(group) > 1 else "reacts"
    return (
        f"{_names(group)} {verb} {way} to changes of an image than {untrained}: they move its features by {own} of the "
        f"distance between images, against {number(pairs[0][1].value)}."
    )


def _ranks(shown: Sequence[Compared], untrained: str) -> str:
    ranks = [f"{one_line(c.run)} {c.rank[0]:.1f}" for c in shown if c.rank]
    base = next((c.rank[1] for c in shown if c.rank), None)
    return "" if base is None else f"Effective rank of the features: {join_words(ranks)}, {untrained} {base:.1f}."


def _names(shown: Sequence[Compared]) -> str:
    return join_words([one_line(c.run) for c in shown])


def _find(shown: Sequence[Compared]) -> str:
    return "find" if len(shown) > 1 else "finds"


def percent(share: Estimate | None) -> str:
    """Write a share with its interval, in percent; a dash where there is none."""
    if share is None:
        return "–"
    ends = "" if share.low is None or share.high is None else f" [{100 * share.low:.0f}, {100 * share.high:.0f}]"
    return f"{100 * share.value:.0f} %{ends}"
