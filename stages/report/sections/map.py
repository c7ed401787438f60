"""The embedding map: one scatter plot for each run over the same images, with a thumbnail under the pointer.

Checked by: tests/stages/report/test_page.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from stages.report.claims.references import pretrained_runs
from stages.report.drawing.scatter import choose_marks, legend_mark, scatter
from stages.report.drawing.thumbnails import Album, Sprite
from stages.report.params import ReportParams
from stages.report.readers.images.ingest import Images
from stages.report.readers.label_sets import LabelSet
from stages.report.readers.runs import Run
from stages.report.section_registry import Absent
from stages.report.text import abbreviate, embed_json, one_line

TITLE = "Embedding map"
ORDER = 60
READS = ("images", "label_sets", "runs", "album", "params")

MOST_RUNS = 12
MOST_POINTS = 1000  # of a map
SPRITE_BUDGET = 1_200_000  # bytes of page
FILE_NAME = 60  # characters of a file's name under the pointer


@dataclass(frozen=True)
class Maps:
    """Maps of all runs over one list of images.

    Args:
        charts: (run, seed, drawing).
        legend: (mark, name, drawing) of each class or cluster.
        others: number of classes that share the grey mark.
        coloured_by: "class", "cluster of ..." or "".
        sprite: thumbnails of all images; None without shards.
        names: text of image i under the pointer.
    """

    charts: tuple[tuple[str, int, Markup], ...]
    legend: tuple[tuple[int, str, Markup], ...]
    others: int
    coloured_by: str
    sprite: Sprite | None
    names: tuple[str, ...]


def show(
    images: Images | None,
    label_sets: tuple[LabelSet, ...],
    runs: tuple[Run, ...],
    album: Album,
    params: ReportParams,
) -> dict[str, Any] | Absent:
    """Draw the maps, and embed what page.js shows under the pointer."""
    by_class = params.map_colours == "classes"
    labels, classes = (images.labels, images.classes) if images and by_class else ({}, ())
    maps = maps_of(runs, labels, classes, label_sets, album, images.names if images else {})
    if maps is None:
        return Absent("No run has a map: the probe map has not run.")
    return {"maps": maps, "pointer_data": embed_json({"names": maps.names, "sprite": _sprite(maps.sprite)})}


def _sprite(sprite: Sprite | None) -> dict[str, Any] | None:
    return {"uri": sprite.picture.uri, "side": sprite.side, "columns": sprite.columns} if sprite else None


def maps_of(
    runs: Sequence[Run],
    labels: Mapping[str, str],
    classes: Sequence[str],
    sets: Sequence[LabelSet],
    album: Album,
    files: Mapping[str, str],
) -> Maps | None:
    """Draw the maps of all runs that have one; None when none has.

    Args:
        runs: all runs.
        labels: key -> class; without any, colours show clusters (`_colours`).
        classes: class names in the order of the legend.
        sets: label sets.
        album: the pixels of the images.
        files: key -> name of the file.
    """
    drawn = [run for run in runs if run.first.map][:MOST_RUNS]
    if not drawn:
        return None
    keys = sorted({key for run in drawn for key, _, _ in run.first.map[:MOST_POINTS]})[: 2 * MOST_POINTS]
    coloured_by, names, order = _colours(keys, labels, classes, runs, sets)
    marks = choose_marks([names.get(key) for key in keys], order)
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
        sprite=album.sprite(keys, SPRITE_BUDGET),
        names=tuple(_words(names.get(key, "no label"), files.get(key)) for key in keys),
    )


def _words(name: str, file: str | None) -> str:
    return one_line(name) if file is None else f"{one_line(name)}: {abbreviate(file, FILE_NAME)}"


def _colours(
    keys: Sequence[str],
    labels: Mapping[str, str],
    classes: Sequence[str],
    runs: Sequence[Run],
    sets: Sequence[LabelSet],
) -> tuple[str, dict[str, str], Sequence[str]]:
    """Choose what the colours show: classes, or clusters of the first pretrained run, or those of a label set.

    Returns:
        The choice in words, the class or cluster of each image that has one, and their order in the legend.
    """
    names = {key: labels[key] for key in keys if key in labels}
    if names:
        return "class", names, classes
    clustered = [run for run in (*pretrained_runs(runs), *runs) if run.first.clusters]
    found = [(run.name, {key: number for key, (number, _, _) in run.first.clusters.items()}) for run in clustered[:1]]
    for name, clusters in [*found, *((candidate.name, candidate.clusters) for candidate in sets)]:
        names = {key: f"cluster {clusters[key]}" for key in keys if key in clusters}
        if names:
            order = [f"cluster {number}" for number in sorted(set(clusters.values()))]
            return f"cluster of {one_line(name)}", names, order
    return "", {}, ()
