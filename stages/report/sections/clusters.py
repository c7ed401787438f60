"""Label sets: sizes and quality of their clusters, and example images of the largest ones.

Checked by: tests/stages/report/sections/test_sections.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from stages.report.drawing.charts import size_chart
from stages.report.drawing.thumbnails import Album, Picture
from stages.report.readers.label_sets import LabelSet, sets_with_true_labels
from stages.report.readers.runs import Run
from stages.report.section_registry import Absent
from stages.report.text import number

TITLE = "Label sets"
ORDER = 20
READS = ("label_sets", "runs", "album")

PICTURE_BUDGET = 1_000_000  # bytes of page, over all label sets
MOST_SHOWN, MOST_IMAGES = 12, 10  # clusters of a label set, images of a cluster
_QUALITY = (  # figure of quality.json, its title, its meaning
    (
        "silhouette",
        "Silhouette",
        "how much closer an image is to its own cluster than to the next; −1 to 1, on a sample",
    ),
    ("entropy", "Evenness", "entropy of the cluster sizes; 1 when all are equal"),
    ("nmi", "NMI", "normalized mutual information with the classes; 0 to 1"),
    ("ari", "ARI", "adjusted Rand index with the classes; 0 is chance, 1 is equal"),
    ("accuracy", "Accuracy", "accuracy when each cluster gets at most one class, one to one (Hungarian matching)"),
    ("accuracy_old", "Accuracy, old", "the same on the classes for which the miner was given labels"),
    ("accuracy_new", "Accuracy, new", "the same on the classes for which it was given none"),
    ("purity", "Purity", "share of images in their cluster's most frequent class"),
)


@dataclass(frozen=True)
class Clusters:
    """A label set as the page shows it.

    Args:
        name: the label set.
        seed: the seed shown, the lowest one.
        more_seeds: number of further seeds.
        miner: the miner's name.
        true_labels: a sentence about the true labels that reached the set; empty where none did.
        features: the features that were clustered.
        used_by: names of the runs that train on it.
        images: number of training images.
        labelled: number of images with a pseudo-label.
        count: number of clusters.
        sizes: images in the smallest, the median and the largest cluster.
        chart: the drawing of all sizes; None for a single cluster.
        quality: (title, value, meaning) of each figure.
        single: number of clusters that hold one image.
        examples: the largest clusters, each with its number of images and pictures of those nearest to its centre.
    """

    name: str
    seed: int
    more_seeds: int
    miner: str
    true_labels: str
    features: str
    used_by: tuple[str, ...]
    images: int
    labelled: int
    count: int
    sizes: tuple[int, int, int] | None
    chart: Markup | None
    quality: tuple[tuple[str, str, str], ...]
    single: int
    examples: tuple[tuple[int, int, tuple[Picture, ...]], ...]


def show(label_sets: tuple[LabelSet, ...], runs: tuple[Run, ...], album: Album) -> dict[str, Any] | Absent:
    """Show every label set that holds clusters, by its lowest seed."""
    clusters = clusters_of(label_sets, runs, album)
    if not clusters:
        return Absent("No label set holds clusters: the mine stage has not run, or every label set is empty.")
    return {"clusters": clusters}


def clusters_of(label_sets: Sequence[LabelSet], runs: Sequence[Run], album: Album) -> tuple[Clusters, ...]:
    """Describe each label set that holds clusters: those first whose clusters hold most images, the classes last."""
    with_clusters = [s for s in label_sets if s.clusters]
    first = {s.name: s for s in reversed(with_clusters)}
    names = sorted(first, key=lambda name: (_is_truth(first[name].quality), -_median(first[name].sizes), name))
    budget = PICTURE_BUDGET // max(1, len(names))
    reached = sets_with_true_labels(label_sets, runs)
    return tuple(
        _clusters([s for s in with_clusters if s.name == name], runs, reached, album, budget) for name in names
    )


def _true_labels(quality: Mapping[str, Any], reached: bool) -> str:
    if not reached:
        return ""
    if not quality.get("uses_truth"):
        return "Mined on the features of a run that has seen true labels."
    if quality.get("given") is None:
        return "These are the true classes themselves, for supervised runs only."
    images = number(quality["given"])
    return f"Mined with the true labels of {images} images; figures that compare with classes use the others."


def _clusters(
    seeds: Sequence[LabelSet], runs: Sequence[Run], reached: frozenset[str], album: Album, budget: int
) -> Clusters:
    first = seeds[0]
    quality, sizes = first.quality, first.sizes
    return Clusters(
        name=first.name,
        seed=first.seed,
        more_seeds=len(seeds) - 1,
        miner=str(quality.get("miner") or "unknown miner"),
        true_labels=_true_labels(quality, first.name in reached),
        features=str(quality.get("on") or "unknown features"),
        used_by=tuple(run.name for run in runs if run.first.config.get("labels") == first.name),
        images=int(quality.get("images") or len(first.clusters)),
        labelled=len(first.clusters),
        count=len(sizes),
        sizes=(sizes[-1], _median(sizes), sizes[0]) if sizes else None,
        chart=size_chart(sizes, f"Cluster sizes of {first.name}", _limit(first.name, runs)) if len(sizes) > 1 else None,
        quality=_quality_rows(quality),
        single=sum(size == 1 for size in sizes),
        examples=_examples(first, album, budget),
    )


def _examples(label_set: LabelSet, album: Album, budget: int) -> tuple[tuple[int, int, tuple[Picture, ...]], ...]:
    """Choose images of the largest clusters; a cluster of one image says nothing, so it is not shown."""
    chosen = [(cluster, keys) for cluster, keys in label_set.members(MOST_SHOWN) if len(keys) > 1]
    pictures = album.pictures([key for _, keys in chosen for key in keys[:MOST_IMAGES]], budget)
    rows = ((c, len(keys), tuple(pictures[k] for k in keys[:MOST_IMAGES] if k in pictures)) for c, keys in chosen)
    return tuple(row for row in rows if row[2])


def _median(sizes: Sequence[int]) -> int:
    return sizes[len(sizes) // 2]


def _is_truth(quality: Mapping[str, Any]) -> bool:
    return bool(quality.get("uses_truth")) and quality.get("given") is None


def _limit(label_set: str, runs: Sequence[Run]) -> tuple[float, str] | None:
    """Find the number of batches in an epoch of a run with guided batches: a larger cluster must have conflicts."""
    sampling = [run.first.config.get("sampling") for run in runs if run.first.config.get("labels") == label_set]
    guided = [s for s in sampling if isinstance(s, dict) and s.get("kind", "guided") == "guided"]
    batches = next((s["batches"] for s in guided if s.get("batches")), None)
    return (float(batches), f"{batches} batches an epoch: larger clusters must conflict") if batches else None


def _quality_rows(quality: Mapping[str, Any]) -> tuple[tuple[str, str, str], ...]:
    if _is_truth(quality):
        return ()  # the true classes themselves: figures that compare them with themselves say nothing
    rows = [row for row in _QUALITY if quality.get(row[0]) is not None]
    return tuple((title, number(quality[key]), meaning) for key, title, meaning in rows)
