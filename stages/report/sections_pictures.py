"""The page's sections that show images through the eyes of a run: map, neighbours, confusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from stages.report.confusion import Confusion, count_confusion, heatmap
from stages.report.gather_runs import LabelSet, Run
from stages.report.scatter import choose_marks, legend_mark, scatter
from stages.report.text import share, shown
from stages.report.thumbnails import Album, Picture, Sprite

MOST_RUNS = 12  # drawn; the tables list all
MOST_POINTS = 1000  # a map
MOST_QUERIES = 6
MOST_NEIGHBOURS = 8
SPRITE_BUDGET = 1_200_000  # bytes of page
NEIGHBOUR_BUDGET = 1_200_000


@dataclass(frozen=True)
class Maps:
    """Maps of all runs over one list of images."""

    charts: tuple[tuple[str, int, Markup], ...]  # run, seed, drawing
    legend: tuple[tuple[int, str, Markup], ...]  # mark, name, drawing
    others: int  # classes that share the grey mark
    coloured_by: str  # "class", "cluster of ..." or ""
    images: int
    sprite: Sprite | None
    names: tuple[str, ...]  # of image i, for the tip


@dataclass(frozen=True)
class Neighbour:
    """A retrieved image; `same` is None where a label is missing."""

    picture: Picture
    label: str | None
    similarity: float
    same: bool | None


@dataclass(frozen=True)
class Query:
    """A query and what each run found nearest in train."""

    picture: Picture
    label: str | None
    rows: tuple[tuple[str, tuple[Neighbour, ...]], ...]  # run, neighbours by rank


@dataclass(frozen=True)
class Confused:
    """A run's confusion matrix, drawn and said in a sentence."""

    run: str
    seed: int
    probe: str
    chart: Markup
    counted: Confusion
    worst: tuple[str, ...]


def maps(
    runs: Sequence[Run], labels: Mapping[str, str], classes: Sequence[str], sets: Sequence[LabelSet], album: Album
) -> Maps | None:
    """The maps of all runs that have one; None when none has."""
    drawn = [run for run in runs if run.first.map][:MOST_RUNS]
    if not drawn:
        return None
    keys = sorted({key for run in drawn for key, _, _ in run.first.map[:MOST_POINTS]})[: 2 * MOST_POINTS]
    names: dict[str, str] = {key: labels[key] for key in keys if key in labels}
    coloured_by = "class" if names else ""
    if not names:
        for candidate in sets:
            names = {key: f"cluster {candidate.clusters[key]}" for key in keys if key in candidate.clusters}
            if names:
                coloured_by = f"cluster of {shown(candidate.name)}"
                break
    marks = choose_marks([names.get(key) for key in keys], classes)
    place = {key: index for index, key in enumerate(keys)}
    charts = []
    for run in drawn:
        points = [point for point in run.first.map[:MOST_POINTS] if point[0] in place]
        chart = scatter(
            [x for _, x, _ in points],
            [y for _, _, y in points],
            [marks.of(names.get(key)) for key, _, _ in points],
            [place[key] for key, _, _ in points],
            f"Map of {len(points)} images by {run.name}",
        )
        charts.append((run.name, run.first.seed, chart))
    return Maps(
        charts=tuple(charts),
        legend=tuple((index, name, legend_mark(index)) for index, name in enumerate(marks.names)),
        others=marks.others,
        coloured_by=coloured_by,
        images=len(keys),
        sprite=album.sprite(keys, SPRITE_BUDGET),
        names=tuple(shown(names.get(key, "no label")) for key in keys),
    )


def queries(runs: Sequence[Run], labels: Mapping[str, str], album: Album) -> tuple[Query, ...]:
    """Query images of the first run that has neighbours, each with the neighbours by every run.

    Queries are taken from different classes first, so that a few show much.
    """
    drawn = [run for run in runs if run.first.neighbours][:MOST_RUNS]
    if not drawn:
        return ()
    common = [key for key in drawn[0].first.neighbours if key in album]
    seen: dict[str | None, int] = {}
    turns = []
    for key in common:
        label = labels.get(key)
        turns.append((seen.setdefault(label, 0), key))
        seen[label] += 1
    chosen = [key for _, key in sorted(turns, key=lambda turn: turn[0])][:MOST_QUERIES]
    wanted = [n for key in chosen for run in drawn for n, _ in run.first.neighbours.get(key, ())[:MOST_NEIGHBOURS]]
    pictures = album.pictures([*chosen, *wanted], NEIGHBOUR_BUDGET)
    return tuple(
        Query(pictures[key], labels.get(key), tuple((run.name, _row(run, key, labels, pictures)) for run in drawn))
        for key in chosen
    )


def _row(run: Run, query: str, labels: Mapping[str, str], pictures: Mapping[str, Picture]) -> tuple[Neighbour, ...]:
    found = []
    for key, similarity in run.first.neighbours.get(query, ())[:MOST_NEIGHBOURS]:
        if key in pictures:
            same = labels[key] == labels[query] if key in labels and query in labels else None
            found.append(Neighbour(pictures[key], labels.get(key), similarity, same))
    return tuple(found)


def confusions(runs: Sequence[Run], classes: Sequence[str]) -> tuple[Confused, ...]:
    """A matrix for each run whose probe left predictions."""
    found = []
    for run in [run for run in runs if run.first.predictions][:MOST_RUNS]:
        assert run.first.predictions is not None
        probe, true, predicted = run.first.predictions
        counted = count_confusion(true, predicted, classes)
        worst = tuple(
            f"{shown(t)} taken for {shown(p)}: {count:,} of {whole:,} ({share(count, whole)})"
            for t, p, count, whole in counted.worst
        )
        chart = heatmap(
            counted, f"Confusion matrix of {run.name}: {counted.total} images, {len(counted.names)} classes"
        )
        found.append(Confused(run.name, run.first.seed, probe, chart, counted, worst))
    return tuple(found)
