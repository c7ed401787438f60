"""Verdicts on pairs of runs, read from data/summary/comparison.json, and the sentence that they add up to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.report.gather_runs import Run
from stages.report.sections_runs import Intervals, estimate
from stages.report.shape import expected_shape, read_object
from stages.report.text import listed, metric_title, number, points, shown

SUMMARY = Path("data/summary/comparison.json")
OVER_SEEDS = "paired t"  # the test whose result speaks of methods
REFERENCE = "random"  # the method of an untrained backbone, the floor of every comparison


@dataclass(frozen=True)
class Verdict:
    """One pair: texts for the table, and whether a difference was found."""

    first: str
    second: str
    gap: float  # first minus second
    differs: bool
    difference: str
    interval: str
    p: str
    words: str


@dataclass(frozen=True)
class Comparison:
    """All verdicts on one metric."""

    family: str
    claim: str  # "models" with one seed, "methods" with enough seeds, "none" between
    tests: tuple[str, ...]
    seeds: int
    verdicts: tuple[Verdict, ...]
    intervals: Intervals
    remarks: tuple[str, ...]  # warnings and notes of the summary stage
    order: tuple[str, ...]


def read_comparison() -> Comparison | None:
    """What the summary stage found; None before it ran.

    Raises:
        ResultError: the file is damaged or of another shape.
    """
    if not SUMMARY.exists():
        return None
    raw = read_object(SUMMARY, "summary")
    with expected_shape(SUMMARY, "summary"):
        pairs = raw["pairs"]
        level = 1 - float(raw["confidence"])
        tests = tuple(sorted({str(pair["test"]) for pair in pairs if pair["p_adjusted"] is not None}))
        return Comparison(
            family=str(raw["family"]),
            claim="methods" if tests == (OVER_SEEDS,) else "models" if tests else "none",
            tests=tests,
            seeds=min((len(pair["seeds"]) for pair in pairs), default=0),
            verdicts=tuple(_verdict(pair, level) for pair in pairs),
            intervals={
                (run, metric): (found["low"], found["high"])
                for metric, by_run in raw["metrics"].items()
                for run, found in by_run.items()
            },
            remarks=(*map(str, raw["warnings"]), *map(str, raw["notes"])),
            order=tuple(map(str, raw["runs"])),
        )


def _verdict(pair: dict[str, Any], level: float) -> Verdict:
    adjusted = pair["p_adjusted"]
    interval = pair["over_seeds"] if pair["test"] == OVER_SEEDS else pair["over_examples"]
    low, high = interval["low"], interval["high"]
    gap = float(pair["difference"])
    return Verdict(
        first=str(pair["a"]),
        second=str(pair["b"]),
        gap=gap,
        differs=adjusted is not None and adjusted < level,
        difference=points(gap),
        interval="" if low is None or high is None else f"[{points(low)}, {points(high)}]",
        p="–" if adjusted is None else "< 0.001" if adjusted < 0.001 else f"{adjusted:.3f}",
        words=_words(pair, gap, adjusted is not None and adjusted < level),
    )


def _words(pair: dict[str, Any], gap: float, differs: bool) -> str:
    """The verdict for people; what the seeds allow to be claimed stands once, above the table."""
    if pair["p_adjusted"] is None:
        return str(pair["verdict"])
    higher, lower = (pair["a"], pair["b"]) if gap > 0 else (pair["b"], pair["a"])
    return f"{shown(higher)} is above {shown(lower)}" if differs else "no difference shown"


def outcome(comparison: Comparison | None, runs: Sequence[Run], family: str) -> str:
    """The outcome in a few sentences, which claim no more than the verdicts do."""
    if not runs:
        return "Nothing has been trained yet: this page describes the data."
    intervals = comparison.intervals if comparison else {}
    found = [e for run in runs if (e := estimate(run, family, intervals))]
    if not found:
        names = listed([shown(run.name) for run in runs])
        return f"Trained: {names}. No accuracy is given without labels and probes: see clusters, neighbours and map."
    best = max(found, key=lambda e: (e.value, e.name))
    start = f"{shown(best.name)} has the highest {metric_title(family)}, {number(best.value)}"
    if best.low is not None and best.high is not None:
        start += f" [{number(best.low)}, {number(best.high)}]"
    if comparison is None or comparison.claim == "none":
        return f"{start}, of {len(found)} run{'s' if len(found) > 1 else ''}. {_no_claim(comparison)}"
    return f"{start}. {_against_reference(comparison, runs)}{_ties(comparison, best.name)}{_claim(comparison)}"


def _no_claim(comparison: Comparison | None) -> str:
    if comparison is None or not comparison.verdicts:
        return "No differences were tested."
    return f"{comparison.seeds} seeds are too few to tell methods from chance: three or more are needed."


def _against_reference(comparison: Comparison, runs: Sequence[Run]) -> str:
    floor = next((run.name for run in runs if run.first.config.get("method") == REFERENCE), None)
    above: list[str] = []
    below: list[str] = []
    unclear: list[str] = []
    for verdict in comparison.verdicts:
        if floor in (verdict.first, verdict.second):
            other, gap = (verdict.first, verdict.gap) if verdict.second == floor else (verdict.second, -verdict.gap)
            (unclear if not verdict.differs else above if gap > 0 else below).append(shown(other))
    clauses = []
    if above:
        clauses.append(f"{listed(above)} {_are(above)} above the untrained network ({shown(floor)}) beyond chance")
    if below:
        clauses.append(f"{listed(below)} {_are(below)} below the untrained network ({shown(floor)})")
    if unclear:
        clauses.append(f"{listed(unclear)} cannot be told from the untrained network ({shown(floor)})")
    return f"{'; '.join(clauses)}. " if clauses else ""


def _are(names: Sequence[str]) -> str:
    return "are" if len(names) > 1 else "is"


def _ties(comparison: Comparison, best: str) -> str:
    level = [
        shown(v.second if v.first == best else v.first)
        for v in comparison.verdicts
        if best in (v.first, v.second) and not v.differs
    ]
    return f"No difference was shown between {shown(best)} and {listed(level)}. " if level else ""


def _claim(comparison: Comparison) -> str:
    if comparison.claim == "methods":
        return f"With {comparison.seeds} seeds this is a statement about the methods, on this data set and budget."
    return (
        "With one seed this is a statement about these trained models, not about the methods: "
        "three seeds or more are needed for that."
    )


def how_tested(comparison: Comparison | None) -> str:
    """How the verdicts were reached."""
    if comparison is None or comparison.claim == "none":
        return ""
    metric, tests = metric_title(comparison.family), listed(list(comparison.tests))
    if comparison.claim == "methods":
        return (
            f"Test: {tests} over the {comparison.seeds} seeds' differences in {metric}, corrected by Holm over all "
            "pairs: a statement about methods on this data set and budget."
        )
    return (
        f"Test: {tests} on the same images for {metric}, corrected by Holm over all pairs: whether two trained models "
        "differ. It is no statement about methods, which needs three seeds or more. "
        "The brackets are intervals over examples, pair by pair, not corrected."
    )
