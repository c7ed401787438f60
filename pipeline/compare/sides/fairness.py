"""Say why a comparison of two sides is unfair, or why the figures of a side are older than what they stand beside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.compare.revisions import Measurements
from pipeline.compare.sides.inputs import ImageChange, SideInputs
from reprise.artifacts.budgets import differences

UNFAIR, STALE, UNKNOWN = "unfair", "stale", "unknown"
_SHOWN = 4


@dataclass(frozen=True)
class Note:
    """What a reader must know before comparing two sides.

    Attributes:
        kind: "unfair", "stale", or "unknown" for what could not be looked at.
        about: "data", "test images", "budget", "figures" or "answers".
        text: a sentence.
    """

    kind: str
    about: str
    text: str


def notes_on(
    before: tuple[Measurements, SideInputs],
    after: tuple[Measurements, SideInputs],
    images: ImageChange | None,
    old: Mapping[str, str],
) -> list[Note]:
    """List what speaks against comparing two sides.

    Args:
        before: figures of the first side, and what it was made from.
        after: the same of the second side.
        images: in what their images differ; None where they do not, or where that is not known.
        old: the runs of the folder whose figures are not current, and why; "" stands for all.
    """
    notes = [*_data(before, after, images), *_answers(before[0], after[0]), *_budgets(before[0], after[0])]
    for measured, inputs in (before, after):
        if inputs.stale:
            notes.append(Note(STALE, "figures", f"The figures of {measured.name} may be old: {_few(inputs.stale)}."))
    if old:
        who = [f"{run}: {why}" if run else why for run, why in old.items()]
        notes.append(Note(STALE, "figures", f"Figures of the folder are not current and are left out: {_few(who)}."))
    return notes


def _data(
    before: tuple[Measurements, SideInputs], after: tuple[Measurements, SideInputs], images: ImageChange | None
) -> list[Note]:
    if images is not None:
        notes = [Note(UNFAIR, "data", f"The data are not the same: {images.line()}.")]
        if images.scored:
            notes.append(Note(UNFAIR, "test images", "Results are reported on other images, or on other labels."))
        return notes
    unknown = [measured.name for measured, inputs in (before, after) if not inputs.images]
    if unknown:
        text = f"Whether the data are the same is not known: dvc.lock of {_few(unknown)} names no images."
        return [Note(UNKNOWN, "data", text)]
    return []


def _answers(before: Measurements, after: Measurements) -> list[Note]:
    """Say where a run answered other test images than before."""
    common = [key for key in after.answers if key in before.answers]
    other = [key for key in common if set(before.answers[key].keys) != set(after.answers[key].keys)]
    if other:
        runs = list(dict.fromkeys(f"{run} ({probe})" if run else probe for run, _, probe in other))
        return [Note(UNFAIR, "test images", f"The probes answered other images: {_few(runs)}.")]
    lacking = [each.name for each in (before, after) if not each.answers]
    if lacking:
        text = f"The answers for each image are not in DVC's cache: {_few(lacking)}. `reprise pull` may fetch them."
        return [Note(UNKNOWN, "answers", text)]
    return []


def _budgets(before: Measurements, after: Measurements) -> list[Note]:
    """Say which runs were trained with another budget, those alike in one sentence."""
    runs_with: dict[str, list[str]] = {}
    for run in after.budgets:
        if run in before.budgets and (found := differences(before.budgets[run], after.budgets[run])):
            runs_with.setdefault(", ".join(found), []).append(run)
    return [
        Note(UNFAIR, "budget", f"Trained with other budgets: {_few(runs)}, {found}.")
        for found, runs in runs_with.items()
    ]


def _few(items: list[str] | tuple[str, ...]) -> str:
    more = len(items) - _SHOWN
    return "; ".join(items[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
