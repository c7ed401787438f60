"""Nearest neighbours: a few images that were not trained on, with the training images that each run finds nearest.

Checked by: tests/stages/report/sections/test_sections.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.report.drawing.thumbnails import Album, Picture
from stages.report.readers.images.ingest import Images
from stages.report.readers.runs import Run
from stages.report.section_registry import Absent

TITLE = "Nearest neighbours"
ORDER = 70
READS = ("images", "runs", "album")

MOST_RUNS = 12
MOST_QUERIES = 6
MOST_NEIGHBOURS = 8
NEIGHBOUR_BUDGET = 1_200_000  # bytes of page


@dataclass(frozen=True)
class Neighbour:
    """A retrieved image; `same` is whether it has the class of the query, None where a label is missing."""

    picture: Picture
    label: str | None
    file: str
    similarity: float
    same: bool | None


@dataclass(frozen=True)
class Query:
    """A query with, for each run, its nearest training images by rank."""

    picture: Picture
    label: str | None
    file: str
    rows: tuple[tuple[str, tuple[Neighbour, ...]], ...]


def show(images: Images | None, runs: tuple[Run, ...], album: Album) -> dict[str, Any] | Absent:
    """Show the neighbours of a few queries, by run."""
    queries = queries_of(runs, images.labels if images else {}, album, images.names if images else {})
    return (
        {"queries": queries}
        if queries
        else Absent("No run has neighbours to show: the probe neighbours has not run, or there are no shards.")
    )


def queries_of(
    runs: Sequence[Run], labels: Mapping[str, str], album: Album, files: Mapping[str, str]
) -> tuple[Query, ...]:
    """Choose queries of the first run that has neighbours, and find their neighbours by every run.

    Queries come from different classes first, so that a few of them show much.

    Args:
        runs: all runs.
        labels: key -> class.
        album: the pixels of the images; keys without a picture are no queries.
        files: key -> name of the file; an image without one is named by its key.
    """
    drawn = [run for run in runs if run.first.neighbours][:MOST_RUNS]
    if not drawn:
        return ()
    taken: dict[str | None, int] = {}
    turns = []
    for key in [key for key in drawn[0].first.neighbours if key in album]:
        label = labels.get(key)
        turns.append((taken.setdefault(label, 0), key))
        taken[label] += 1
    chosen = [key for _, key in sorted(turns, key=lambda turn: turn[0])][:MOST_QUERIES]
    wanted = [n for key in chosen for run in drawn for n, _ in run.first.neighbours.get(key, ())[:MOST_NEIGHBOURS]]
    pictures = album.pictures([*chosen, *wanted], NEIGHBOUR_BUDGET)
    return tuple(
        Query(
            pictures[key],
            labels.get(key),
            files.get(key, key[:8]),
            tuple((run.name, _row(run, key, labels, pictures, files)) for run in drawn),
        )
        for key in chosen
    )


def _row(
    run: Run, query: str, labels: Mapping[str, str], pictures: Mapping[str, Picture], files: Mapping[str, str]
) -> tuple[Neighbour, ...]:
    row = []
    for key, similarity in run.first.neighbours.get(query, ())[:MOST_NEIGHBOURS]:
        if key in pictures:
            same = labels[key] == labels[query] if key in labels and query in labels else None
            row.append(Neighbour(pictures[key], labels.get(key), files.get(key, key[:8]), similarity, same))
    return tuple(row)
