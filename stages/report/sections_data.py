"""The page's sections about the data and the label sets: from gathered artifacts to what the templates print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from reprise.artifacts.manifest import SPLITS
from stages.report.charts import bar_chart, size_chart
from stages.report.gather_data import DataPart, Images, sample_keys
from stages.report.gather_runs import LabelSet, Run
from stages.report.text import number, share
from stages.report.thumbnails import Album, Picture, montage

MOST_BARS = 24
SAMPLE_BUDGET = 1_600_000  # bytes of page
MONTAGE_BUDGET = 1_000_000  # over all label sets
_QUALITY = (
    (
        "silhouette",
        "Silhouette",
        "how much closer an image is to its own cluster than to the next; −1 to 1, on a sample",
    ),
    ("entropy", "Evenness", "entropy of the cluster sizes; 1 when all are equal"),
    ("nmi", "NMI", "normalized mutual information with the classes; 0 to 1"),
    ("ari", "ARI", "adjusted Rand index with the classes; 0 is chance, 1 is equal"),
    ("accuracy", "Accuracy", "when each cluster is given at most one class, one to one (Hungarian matching)"),
    ("accuracy_old", "Accuracy, old", "of that pairing, on classes of which the miner was given labels"),
    ("accuracy_new", "Accuracy, new", "of that pairing, on classes of which it was given none"),
    ("purity", "Purity", "share of images in their cluster's most frequent class"),
)


@dataclass(frozen=True)
class Sample:
    """An image of the grid and its class (None without)."""

    key: str
    label: str | None
    picture: Picture


@dataclass(frozen=True)
class Balance:
    """Class balance: the chart, and what it leaves out."""

    chart: Markup
    parts: tuple[str, ...]
    shown: int
    classes: int
    largest: tuple[str, int]
    smallest: tuple[str, int]


@dataclass(frozen=True)
class Clusters:
    """A label set as the page shows it."""

    name: str
    seed: int
    more_seeds: int
    miner: str
    saw: str  # a sentence about the true labels that it has seen; empty where there are none
    features: str
    used_by: tuple[str, ...]
    images: int
    labelled: int
    count: int
    sizes: tuple[int, int, int] | None  # smallest, median, largest
    chart: Markup | None
    quality: tuple[tuple[str, str, str], ...]  # name, value, meaning
    picture: Picture | None
    cut: bool


def samples(part: DataPart, album: Album, wanted: int) -> tuple[Sample, ...]:
    """The sample grid; empty when there are no images or no shards."""
    if part.images is None:
        return ()
    keys = sample_keys(part.images, wanted)
    pictures = album.pictures(keys, SAMPLE_BUDGET)
    return tuple(Sample(key, part.images.labels.get(key), pictures[key]) for key in keys if key in pictures)


def balance(images: Images | None) -> Balance | None:
    """Bars for the most frequent classes, in the data set's order; None without labels."""
    if images is None or not images.classes:
        return None
    totals = {name: sum(images.class_counts[name]) for name in images.classes}
    ranked = sorted(images.classes, key=lambda name: (-totals[name], name))
    kept = set(ranked[:MOST_BARS])
    present = [index for index, split in enumerate(SPLITS) if images.counts.get(split)]
    rows = [(name, [images.class_counts[name][i] for i in present]) for name in images.classes if name in kept]
    parts = tuple(SPLITS[i] for i in present)
    return Balance(
        chart=bar_chart(rows, parts, f"Images per class: {len(images.classes)} classes"),
        parts=parts,
        shown=len(rows),
        classes=len(images.classes),
        largest=(ranked[0], totals[ranked[0]]),
        smallest=(ranked[-1], totals[ranked[-1]]),
    )


def cluster_sections(label_sets: Sequence[LabelSet], runs: Sequence[Run]) -> tuple[Clusters, ...]:
    """One section a label set that holds clusters, showing its lowest seed."""
    with_clusters = [s for s in label_sets if s.clusters]
    names = list(dict.fromkeys(s.name for s in with_clusters))
    budget = MONTAGE_BUDGET // max(1, len(names))
    seen = saw_labels(label_sets, runs)
    return tuple(_clusters([s for s in with_clusters if s.name == name], runs, seen, budget) for name in names)


def saw_labels(label_sets: Sequence[LabelSet], runs: Sequence[Run]) -> frozenset[str]:
    """Label sets that true labels have reached: by their miner, or by the run on whose embedding they were mined."""
    used = {run.name: run.first.config.get("labels") for run in runs}
    on = {s.name: str(s.quality.get("on")).removeprefix("embed/") for s in label_sets}
    seen = {s.name for s in label_sets if s.quality.get("uses_truth")}
    while later := {name for name, run in on.items() if used.get(run) in seen} - seen:
        seen |= later
    return frozenset(seen)


def _saw(quality: Mapping[str, Any], seen: bool) -> str:
    if not seen:
        return ""
    if not quality.get("uses_truth"):
        return "Mined on what a run learned that had seen true labels."
    if quality.get("given") is None:
        return "These are the true classes themselves, for supervised runs only."
    images = number(quality["given"])
    return f"Mined with the true labels of {images} images; figures that compare with classes are of the others."


def _clusters(seeds: Sequence[LabelSet], runs: Sequence[Run], seen: frozenset[str], budget: int) -> Clusters:
    first = seeds[0]
    quality = first.quality
    sizes = first.sizes
    batch_rows = [run.first.config.get("sampling") for run in runs if run.first.config.get("labels") == first.name]
    guided = [s for s in batch_rows if isinstance(s, dict) and s.get("kind", "guided") == "guided"]
    batches = next((s["batches"] for s in guided if s.get("batches")), None)
    limit = (float(batches), f"{batches} batches an epoch: larger clusters must conflict") if batches else None
    itself = bool(quality.get("uses_truth")) and quality.get("given") is None  # the true classes: figures say nothing
    figures = () if itself else tuple(row for row in _QUALITY if quality.get(row[0]) is not None)
    picture, cut = (None, False)
    if first.montage is not None:
        picture, cut = montage(first.montage.read_bytes(), str(first.montage), budget)
    return Clusters(
        name=first.name,
        seed=first.seed,
        more_seeds=len(seeds) - 1,
        saw=_saw(quality, first.name in seen),
        miner=str(quality.get("miner") or "unknown miner"),
        features=str(quality.get("on") or "unknown features"),
        used_by=tuple(run.name for run in runs if run.first.config.get("labels") == first.name),
        images=int(quality.get("images") or len(first.clusters)),
        labelled=len(first.clusters),
        count=len(sizes),
        sizes=(sizes[-1], sizes[len(sizes) // 2], sizes[0]) if sizes else None,
        chart=size_chart(sizes, f"Cluster sizes of {first.name}", limit) if len(sizes) > 1 else None,
        quality=tuple((title, number(quality[key]), meaning) for key, title, meaning in figures),
        picture=picture,
        cut=cut,
    )


def refused_share(part: DataPart) -> str:
    """Share of the files found that were refused, as text; empty when it is not known."""
    if part.dataset is None or not part.dataset.found:
        return ""
    refused = part.dataset.quarantined
    if refused is None and part.refusals is not None:
        refused = sum(r.count for r in part.refusals)
    return share(refused, part.dataset.found) if refused else ""


def size_words(images: Images | None) -> str:
    """Sizes of the images in a sentence."""
    if images is None or not images.total:
        return ""
    (w1, w2), (h1, h2) = images.sides[:2], images.sides[2:]
    if (w1, h1) == (w2, h2):
        return f"All are {w1:,} × {h1:,} pixels."
    return f"Widths run from {w1:,} to {w2:,} pixels, heights from {h1:,} to {h2:,}."
