"""The first sentence of the page: was pretraining worth it, against each reference that was run?

It repeats verdicts and nothing else: a run is above or below a reference where the test shows a difference, and where
none is shown, that is said in these words. See docs/explanation/statistics.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reprise.artifacts.budgets import labels_read
from reprise.config.tables import TRUTH
from stages.report.readers.comparison import Comparison
from stages.report.readers.runs import Run
from stages.report.references import pretrained_runs, reference_runs, reference_words
from stages.report.text import join_words, one_line


def worth(comparison: Comparison | None, runs: Sequence[Run]) -> str:
    """Answer the question, against the references in the order untrained, published, supervised.

    Returns:
        A sentence that ends with a space; empty where no run was pretrained or there is no reference.
    """
    pretrained = {run.name: _in_words(run) for run in pretrained_runs(runs)}
    references = reference_runs(runs)
    if not pretrained or not references or comparison is None or comparison.claim == "none":
        return ""
    clauses = [clause for reference in references for clause in _against(comparison, pretrained, reference)]
    return f"Was pretraining worth it? {_capital('; '.join(clauses))}. " if clauses else ""


def _against(comparison: Comparison, pretrained: Mapping[str, str], reference: Run) -> list[str]:
    """State the verdicts of all pretrained runs (name: words for it) on one reference, a clause for each outcome."""
    outcomes: dict[str, list[str]] = {"above": [], "below": [], "level": []}
    unequal: set[str] = set()
    for verdict in comparison.verdicts:
        names = (verdict.first, verdict.second)
        other = verdict.second if verdict.first == reference.name else verdict.first
        if reference.name in names and other in pretrained:
            gap = verdict.gap if verdict.first == other else -verdict.gap
            outcomes["level" if not verdict.differs else "above" if gap > 0 else "below"].append(pretrained[other])
            unequal |= set(verdict.unequal)
    name = f"{reference_words(reference.first.config)} ({one_line(reference.name)})"
    clauses = [
        f"{join_words(found)} {'are' if len(found) > 1 else 'is'} {side} {name} beyond chance"
        for side in ("above", "below")
        if (found := outcomes[side])
    ]
    if outcomes["level"]:
        clauses.append(f"no difference was shown between {join_words(outcomes['level'])} and {name}")
    return [f"{clause}, at unequal budgets" for clause in clauses] if unequal else clauses


def _in_words(run: Run) -> str:
    """Name a run, and say where it, or a run that it goes on from, could read the true labels."""
    return one_line(run.name) + (" (has read labels)" if TRUTH in labels_read(run.first.config) else "")


def _capital(words: str) -> str:
    """Begin a sentence with a capital, unless it begins with the name of a run."""
    return f"N{words[1:]}" if words.startswith("no difference") else words
