"""The head of the page: the outcome in one sentence, what is surprising about it, and what else may be said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stages.report.claims.few_labels import over_labels
from stages.report.claims.surprises import surprises
from stages.report.claims.without_labels import Compared, sentence_of
from stages.report.claims.worth import worth
from stages.report.drawing.charts import Estimate
from stages.report.estimates import estimate, family_of, intervals_of
from stages.report.readers.comparison import Comparison
from stages.report.readers.runs import Run
from stages.report.text import join_words, metric_title, number, one_line


@dataclass(frozen=True)
class Headline:
    """What the page says first. It claims no more than the verdicts do.

    Args:
        sentence: the outcome.
        surprises: verdicts against the order that one expects, a sentence each.
        details: what else may be said, a sentence each.
    """

    sentence: str
    surprises: tuple[str, ...] = ()
    details: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """All sentences on one line."""
        return " ".join((self.sentence, *self.surprises, *self.details))


def headline(comparison: Comparison | None, runs: Sequence[Run], compared: Sequence[Compared] = ()) -> Headline:
    """State the outcome.

    Args:
        comparison: verdicts on pairs of runs; None before the summary stage ran.
        runs: of the page.
        compared: pretrained runs compared with the untrained network without labels.
    """
    if not runs:
        return Headline("Nothing has been trained yet: this page describes the data.")
    family = family_of(comparison)
    estimates = [e for run in runs if (e := estimate(run, family, intervals_of(comparison)))]
    if not estimates:
        return _without_figures(runs, compared)
    if len(estimates) == 1:
        only = estimates[0]
        return Headline(
            f"{one_line(only.name)} reaches a {metric_title(family)} of {_with_interval(only)}.",
            details=("There is no other run to compare it with.",),
        )
    if comparison is None or comparison.claim == "none":
        return _untested(comparison, family, estimates)
    best, answer = _best(comparison, family, estimates), worth(comparison, runs, metric_title(family))
    details = [best if answer else "", _claim(comparison), over_labels(runs, comparison.confidence).strip()]
    return Headline(answer or best, surprises(comparison, runs), tuple(filter(None, details)))


def _without_figures(runs: Sequence[Run], compared: Sequence[Compared]) -> Headline:
    names = join_words([one_line(run.name) for run in runs])
    if not compared:
        return Headline(
            f"Trained: {names}. There is no accuracy without labels and probes: see clusters, neighbours and map."
        )
    sentence, *details = sentence_of(compared)
    return Headline(sentence, details=tuple(details))


def _untested(comparison: Comparison | None, family: str, estimates: Sequence[Estimate]) -> Headline:
    """Give the range of the figures and no name alone: where nothing was tested, nobody has won."""
    low, high = (pick(estimates, key=lambda e: (e.value, e.name)) for pick in (min, max))
    spread = (
        f"Between the runs, {metric_title(family)} goes from {number(low.value)} ({one_line(low.name)}) to "
        f"{number(high.value)} ({one_line(high.name)})."
    )
    if comparison is None or not comparison.verdicts:
        return Headline("No differences between the runs were tested.", details=(spread,))
    return Headline(
        f"{comparison.seeds} seeds are too few to tell methods apart: three or more are needed.", details=(spread,)
    )


def _best(comparison: Comparison, family: str, estimates: Sequence[Estimate]) -> str:
    """Name the run that is above all others by the verdicts, or say that there is none."""
    best = max(estimates, key=lambda e: (e.value, e.name))
    level = [
        one_line(v.second if v.first == best.name else v.first)
        for v in comparison.verdicts
        if best.name in (v.first, v.second) and not v.differs
    ]
    figure = f"{metric_title(family)}, {_with_interval(best)}"
    if not level:
        return f"{one_line(best.name)} is above every other run: it has a {figure}."
    tied = [one_line(e.name) for e in estimates if number(e.value) == number(best.value)]
    if len(tied) > 1:
        return (
            f"No run was shown to be the best: {join_words(tied)} have the highest {metric_title(family)}, "
            f"{number(best.value)}, and no difference was shown between {one_line(best.name)} and {join_words(level)}."
        )
    return (
        f"No run was shown to be the best: {one_line(best.name)} has the highest {figure}, "
        f"and no difference was shown between it and {join_words(level)}."
    )


def _with_interval(figure: Estimate) -> str:
    ends = "" if figure.low is None or figure.high is None else f" [{number(figure.low)}, {number(figure.high)}]"
    return f"{number(figure.value)}{ends}"


def _claim(comparison: Comparison) -> str:
    if comparison.claim == "methods":
        return f"With {comparison.seeds} seeds this is a statement about the methods, on this data set and budget."
    return (
        "With one seed this is a statement about these trained models, not about the methods: "
        "three seeds or more are needed for that."
    )
