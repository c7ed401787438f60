"""Was pretraining worth it, against each reference that was run?

It repeats verdicts and nothing else: a run is above or below a reference where the test shows a difference, and where
none is shown, that is said in these words. See docs/explanation/statistics.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reprise.artifacts.budgets import labels_read
from reprise.config.tables import TRUTH
from stages.report.claims.references import PUBLISHED, UNTRAINED, pretrained_runs, reference_runs, reference_words
from stages.report.readers.comparison import Comparison
from stages.report.readers.runs import Run
from stages.report.text import join_words, one_line


def worth(comparison: Comparison, runs: Sequence[Run], metric: str) -> str:
    """Answer in one sentence: the verdicts of all pretrained runs on the untrained network, published weights, labels.

    The first words answer for the untrained network, and say so where no run is above the published weights.

    Args:
        comparison: verdicts on pairs of runs.
        runs: of the page.
        metric: the metric of the verdicts, in words.

    Returns:
        The sentence; empty where no run was pretrained, nothing was tested, or there is no reference.
    """
    names = _names(runs)
    if not names or comparison.claim == "none":
        return ""
    clauses, start, behind = [], "", False
    for reference in reference_runs(runs):
        outcomes, unequal = _outcomes(comparison, names, reference)
        found = _clauses(outcomes, reference)
        method = reference.first.config["method"]
        if method == UNTRAINED:  # whose budget is none
            start = _start(outcomes) if found else ""
        else:
            found = [f"{clause}, at unequal budgets" if unequal else clause for clause in found]
        behind |= method == PUBLISHED and bool(found) and not outcomes["above"]
        clauses += found
    if not clauses:
        return ""
    if not start:
        return f"{_capital('; '.join(clauses))}."
    if behind and start.startswith("Pretraining helped"):
        start += ", but no run was shown to be above the published weights"
    return f"{start}: on {metric}, {'; '.join(clauses)}."


def _start(outcomes: Mapping[str, list[str]]) -> str:
    """Say whether pretraining helped, by the verdicts on the untrained network."""
    above, below, level = (bool(outcomes[side]) for side in ("above", "below", "level"))
    if above:
        return "Pretraining helped in part" if below or level else "Pretraining helped"
    return "Pretraining did harm" if below and not level else "Pretraining was not shown to help"


def _names(runs: Sequence[Run]) -> dict[str, str]:
    return {run.name: _in_words(run) for run in pretrained_runs(runs)}


def _outcomes(
    comparison: Comparison, pretrained: Mapping[str, str], reference: Run
) -> tuple[dict[str, list[str]], bool]:
    """Sort the pretrained runs (name: words for it) by their verdicts on a reference; are budgets unequal?"""
    outcomes: dict[str, list[str]] = {"above": [], "below": [], "level": []}
    unequal = False
    for verdict in comparison.verdicts:
        names = (verdict.first, verdict.second)
        other = verdict.second if verdict.first == reference.name else verdict.first
        if reference.name in names and other in pretrained:
            gap = verdict.gap if verdict.first == other else -verdict.gap
            outcomes["level" if not verdict.differs else "above" if gap > 0 else "below"].append(pretrained[other])
            unequal |= bool(verdict.unequal)
    return outcomes, unequal


def _clauses(outcomes: Mapping[str, list[str]], reference: Run) -> list[str]:
    """Write a clause for each outcome."""
    name = f"{reference_words(reference.first.config)} ({one_line(reference.name)})"
    clauses = [
        f"{join_words(found)} {'are' if len(found) > 1 else 'is'} {side} {name}"
        for side in ("above", "below")
        if (found := outcomes[side])
    ]
    if outcomes["level"]:
        clauses.append(f"no difference was shown between {join_words(outcomes['level'])} and {name}")
    return clauses


def _in_words(run: Run) -> str:
    """Name a run, and say where it, or a run that it goes on from, could read the true labels."""
    return one_line(run.name) + (" (has read labels)" if TRUTH in labels_read(run.first.config) else "")


def _capital(words: str) -> str:
    """Begin a sentence with a capital, unless it begins with the name of a run."""
    return f"N{words[1:]}" if words.startswith("no difference") else words
