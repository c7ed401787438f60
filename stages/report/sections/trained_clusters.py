"""Clusters of the trained embedding: how many, how large, how sure, and which images are typical or between two.

The probe `clustering` finds them without labels. A cluster's number, its most central and its least certain images are
shown with the names of their files; how far seeds agree is the adjusted Rand index of their clusters.

Checked by: tests/stages/report/sections/test_trained_clusters.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

import numpy as np

from reprise.measures.cluster_quality import adjusted_rand_index, contingency
from stages.report.claims.references import pretrained_runs
from stages.report.drawing.thumbnails import Album, Picture
from stages.report.readers.images.ingest import Images
from stages.report.readers.runs import Run, SeedRun
from stages.report.section_registry import Absent
from stages.report.text import abbreviate, number

TITLE = "Clusters"
ORDER = 9
READS = ("images", "runs", "album")

CENTRAL, UNSURE = 6, 3  # images shown of a cluster
SHOWN, MOST = 8, 60  # clusters that stand open, and that are shown at all
MOST_RUNS = 3  # whose pictures are shown
BUDGET = 1_000_000  # bytes of page, over all runs
NAME = 24  # characters of a file's name below its picture


@dataclass(frozen=True)
class Shown:
    """An image of a cluster.

    Args:
        picture: its thumbnail; None without shards.
        name: the path of its file below the folder that all share, or its key.
        short: the name of the file alone, in few characters.
        certainty: 0 between two clusters, 1 on a centre, as text.
    """

    picture: Picture | None
    name: str
    short: str
    certainty: str


@dataclass(frozen=True)
class Cluster:
    """A cluster, with its images from the centre outwards.

    Args:
        number: as in clustering.parquet.
        size: number of images.
        certainty: their median, as text.
        central, unsure: the images nearest to the centre, and the least certain ones.
    """

    number: int
    size: int
    certainty: str
    central: tuple[Shown, ...]
    unsure: tuple[Shown, ...]


@dataclass(frozen=True)
class Row:
    """A run in the table; figures as text, a dash where there is none."""

    run: str
    clusters: int
    sizes: tuple[int, int, int]
    silhouette: str
    stability: str
    agreement: str


@dataclass(frozen=True)
class Clustered:
    """The clusters of a run's lowest seed.

    Args:
        run, seed: what is shown.
        clusters: by number, at most MOST.
        left_out: number of clusters that are not shown.
    """

    run: str
    seed: int
    clusters: tuple[Cluster, ...]
    left_out: int


def show(images: Images | None, runs: tuple[Run, ...], album: Album) -> dict[str, Any] | Absent:
    """Compare the clusters of all runs in a table, and show those of the pretrained ones."""
    found = [run for run in runs if run.first.clusters]
    if not found:
        return Absent("No embedding was clustered: the probe `clustering` has not run.")
    pretrained = {run.name for run in pretrained_runs(found)}
    shown = [run for run in found if run.name in pretrained] or found
    names = images.names if images else {}
    return {
        "rows": [row_of(run) for run in found],
        "several": any(len(run.seeds) > 1 for run in found),
        "clustered": [
            clusters_of(run.first, names, album, BUDGET // len(shown[:MOST_RUNS])) for run in shown[:MOST_RUNS]
        ],
        "left_out": [run.name for run in shown[MOST_RUNS:]],
        "open": SHOWN,
    }


def row_of(run: Run) -> Row:
    """Describe the clusters of a run's lowest seed in numbers, and how far its seeds agree."""
    sizes = sorted(np.unique([c for c, _, _ in run.first.clusters.values()], return_counts=True)[1].tolist())
    figures = [run.first.figures.get(f"clustering.{name}") for name in ("silhouette", "stability")]
    silhouette, stability = (number(figure.value if figure else None) for figure in figures)
    agreed = agreement(run.seeds)
    return Row(
        run.name, len(sizes), (sizes[0], sizes[len(sizes) // 2], sizes[-1]), silhouette, stability, number(agreed)
    )


def agreement(seeds: Sequence[SeedRun]) -> float | None:
    """Average the adjusted Rand index over all pairs of seeds, on the images that both have; None with one seed."""
    pairs = []
    for first, second in itertools.combinations([seed.clusters for seed in seeds if seed.clusters], 2):
        keys = sorted(first.keys() & second.keys())
        if keys:
            one, other = (np.array([clusters[key][0] for key in keys]) for clusters in (first, second))
            pairs.append(adjusted_rand_index(contingency(one, other)))
    return mean(pairs) if pairs else None


def clusters_of(seed: SeedRun, names: Mapping[str, str], album: Album, budget: int) -> Clustered:
    """Choose the images of each cluster that are shown.

    Args:
        seed: a run that was clustered.
        names: key -> name of the file.
        album: the pixels of the images.
        budget: bytes of page for all pictures.
    """
    members: dict[int, list[str]] = {}
    for key in sorted(seed.clusters, key=lambda key: (*seed.clusters[key][:2], key)):
        members.setdefault(seed.clusters[key][0], []).append(key)
    chosen = {cluster: _chosen(keys, seed) for cluster, keys in list(members.items())[:MOST]}
    pictures = album.pictures([key for pair in chosen.values() for keys in pair for key in keys], budget)

    def shown(keys: Sequence[str]) -> tuple[Shown, ...]:
        return tuple(
            Shown(
                pictures.get(key),
                names.get(key, key),
                abbreviate(names.get(key, key).rpartition("/")[2], NAME),
                f"{seed.clusters[key][2]:.2f}",
            )
            for key in keys
        )

    clusters = tuple(
        Cluster(
            cluster,
            len(members[cluster]),
            f"{median(seed.clusters[key][2] for key in members[cluster]):.2f}",
            shown(central),
            shown(unsure),
        )
        for cluster, (central, unsure) in chosen.items()
    )
    return Clustered(seed.run, seed.seed, clusters, len(members) - len(clusters))


def _chosen(keys: Sequence[str], seed: SeedRun) -> tuple[list[str], list[str]]:
    """Choose the nearest to the centre, and of the others the least certain ones, the least certain first."""
    central = list(keys[:CENTRAL])
    others = sorted(keys[CENTRAL:], key=lambda key: (seed.clusters[key][2], key))
    return central, others[:UNSURE]
