"""The surest mistakes of each run, with the names of the files, and how far its confidence can be believed.

Checked by: tests/stages/report/sections/test_mistakes.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from stages.report.drawing.reliability import reliability_chart
from stages.report.drawing.thumbnails import Album, Picture
from stages.report.estimates import confidence_of
from stages.report.readers.comparison import Comparison
from stages.report.readers.images.ingest import Images
from stages.report.readers.runs import Run
from stages.report.reliability import FEWEST_IMAGES, reliability
from stages.report.section_registry import Absent
from stages.report.text import number

TITLE = "Mistakes and confidence"
ORDER = 82
READS = ("images", "runs", "album", "comparison")

MOST_RUNS = 12
MOST_MISTAKES = 12  # of a run
PICTURE_BUDGET = 800_000  # bytes of page


@dataclass(frozen=True)
class Mistake:
    """An image, its true class and the answer, the confidence in words (empty without), and the name of its file."""

    picture: Picture
    label: str
    predicted: str
    confidence: str
    file: str


@dataclass(frozen=True)
class Answered:
    """A run: its probe, number of images and of wrong answers, mistakes that are shown, and its confidence."""

    run: str
    seed: int
    probe: str
    images: int
    wrong: int
    mistakes: tuple[Mistake, ...]
    chart: Markup | None
    words: str


def show(
    images: Images | None, runs: tuple[Run, ...], album: Album, comparison: Comparison | None
) -> dict[str, Any] | Absent:
    """Show the wrong answers of which the probe was surest, and accuracy by confidence."""
    answered = answered_of(runs, images.names if images else {}, album, confidence_of(comparison))
    if not answered:
        return Absent("There are no predictions: without labels nothing is classified.")
    return {"answered": answered, "fewest": FEWEST_IMAGES}


def answered_of(runs: Sequence[Run], files: Mapping[str, str], album: Album, confidence: float) -> tuple[Answered, ...]:
    """Describe the answers of each run that has predictions.

    Args:
        runs: all runs.
        files: key -> name of the file.
        album: the pixels of the images.
        confidence: level of the intervals.
    """
    chosen = [run for run in runs if run.first.predictions and run.first.predictions.keys][:MOST_RUNS]
    if not chosen:
        return ()
    surest = {run.name: _surest(run) for run in chosen}
    pictures = album.pictures([row[0] for rows in surest.values() for row in rows[:MOST_MISTAKES]], PICTURE_BUDGET)
    return tuple(_answered(run, surest[run.name], files, pictures, confidence) for run in chosen)


def _surest(run: Run) -> list[tuple[str, str, str, float | None]]:
    """List wrong answers as (key, true class, answer, score), the surest first."""
    assert run.first.predictions
    _, labels, predicted, keys, scores = run.first.predictions
    wrong = [row for row in zip(keys, labels, predicted, scores, strict=True) if row[1] != row[2]]
    return sorted(wrong, key=lambda row: (-(row[3] or 0.0), row[0]))


def _answered(
    run: Run,
    wrong: Sequence[tuple[str, str, str, float | None]],
    files: Mapping[str, str],
    pictures: Mapping[str, Picture],
    confidence: float,
) -> Answered:
    assert run.first.predictions
    mistakes = tuple(
        Mistake(pictures[key], label, answer, "" if score is None else number(score), files.get(key, key[:8]))
        for key, label, answer, score in wrong[:MOST_MISTAKES]
        if key in pictures
    )
    found = reliability(run.first.predictions, confidence)
    words = ""
    if found is not None:
        gap = 100 * (found.confidence - found.accuracy)
        way = "too sure" if gap > 1 else "not sure enough" if gap < -1 else "about as sure as it is right"
        words = (
            f"Mean confidence {number(found.confidence)}, accuracy {number(found.accuracy)}: on average {way}. "
            f"Expected calibration error {number(found.error)}, over ten bins."
        )
    probe = run.first.predictions.probe
    title = f"Reliability of {run.name}: {words}"
    return Answered(
        run.name,
        run.first.seed,
        probe,
        len(run.first.predictions.labels),
        len(wrong),
        mistakes,
        reliability_chart(found, title) if found else None,
        words,
    )
