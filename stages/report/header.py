"""The head of the page: the outcome in a few sentences, and the counts under it."""

from __future__ import annotations

from collections.abc import Sequence

from reprise.artifacts.manifest import SPLITS
from stages.report.estimates import estimate, family_of, intervals_of
from stages.report.few_labels import over_labels
from stages.report.readers.comparison import Comparison
from stages.report.readers.images.ingest import Dataset, Images
from stages.report.readers.runs import Run
from stages.report.references import UNTRAINED
from stages.report.text import join_words, metric_title, number, one_line
from stages.report.worth import worth


def outcome(comparison: Comparison | None, runs: Sequence[Run]) -> str:
    """State the outcome in a few sentences that claim no more than the verdicts do."""
    if not runs:
        return "Nothing has been trained yet: this page describes the data."
    family = family_of(comparison)
    estimates = [e for run in runs if (e := estimate(run, family, intervals_of(comparison)))]
    if not estimates:
        names = join_words([one_line(run.name) for run in runs])
        return f"Trained: {names}. There is no accuracy without labels and probes: see clusters, neighbours and map."
    best = max(estimates, key=lambda e: (e.value, e.name))
    start = f"{one_line(best.name)} has the highest {metric_title(family)}, {number(best.value)}"
    if best.low is not None and best.high is not None:
        start += f" [{number(best.low)}, {number(best.high)}]"
    if comparison is None or comparison.claim == "none":
        return f"{start}, of {len(estimates)} run{'s' if len(estimates) > 1 else ''}. {_no_claim(comparison)}"
    answer = worth(comparison, runs)
    by_labels = over_labels(runs, comparison.confidence)
    further = "" if answer else _against_untrained(comparison, runs)
    return f"{answer}{by_labels}{start}. {further}{_ties(comparison, best.name)}{_claim(comparison)}"


def _no_claim(comparison: Comparison | None) -> str:
    if comparison is None or not comparison.verdicts:
        return "No differences were tested."
    return f"{comparison.seeds} seeds are too few for a statement about methods: three or more are needed."


def _against_untrained(comparison: Comparison, runs: Sequence[Run]) -> str:
    untrained = next((run.name for run in runs if run.first.config.get("method") == UNTRAINED), None)
    above: list[str] = []
    below: list[str] = []
    unclear: list[str] = []
    for verdict in comparison.verdicts:
        if untrained in (verdict.first, verdict.second):
            is_second = verdict.second == untrained
            other, gap = (verdict.first, verdict.gap) if is_second else (verdict.second, -verdict.gap)
            (unclear if not verdict.differs else above if gap > 0 else below).append(one_line(other))
    clauses = []
    if above:
        clauses.append(
            f"{join_words(above)} {_are(above)} above the untrained network ({one_line(untrained)}) beyond chance"
        )
    if below:
        clauses.append(f"{join_words(below)} {_are(below)} below the untrained network ({one_line(untrained)})")
    if unclear:
        clauses.append(f"{join_words(unclear)} cannot be told apart from the untrained network ({one_line(untrained)})")
    return f"{'; '.join(clauses)}. " if clauses else ""


def _are(names: Sequence[str]) -> str:
    return "are" if len(names) > 1 else "is"


def _ties(comparison: Comparison, best: str) -> str:
    level = [
        one_line(v.second if v.first == best else v.first)
        for v in comparison.verdicts
        if best in (v.first, v.second) and not v.differs
    ]
    return f"No difference was shown between {one_line(best)} and {join_words(level)}. " if level else ""


def _claim(comparison: Comparison) -> str:
    if comparison.claim == "methods":
        return f"With {comparison.seeds} seeds this is a statement about the methods, on this data set and budget."
    return (
        "With one seed this is a statement about these trained models, not about the methods: "
        "three seeds or more are needed for that."
    )


def header_facts(dataset: Dataset | None, images: Images | None, runs: Sequence[Run]) -> list[tuple[str, str, str]]:
    """List (title, value, remark) for the strip under the outcome."""
    counts = [(split, number(images.counts.get(split, 0)), "images") for split in SPLITS] if images else []
    classes = (
        [("classes", number(len(images.classes)), "")]
        if images and images.classes
        else [("classes", "none", "no labels")]
    )
    refused = dataset.quarantined if dataset else None
    seeds = sorted({seed.seed for run in runs for seed in run.seeds})
    return [
        *counts,
        *classes,
        ("refused", number(refused), "files"),
        ("runs", number(len(runs)), ""),
        ("seeds", number(len(seeds)), ", ".join(map(str, seeds[:10]))),
    ]
