"""The data: files found, kept and refused, class balance, validation, a sample of images.

Checked by: tests/stages/report/sections/test_sections.py.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from reprise.artifacts.manifest import SPLITS
from stages.report.drawing.charts import bar_chart
from stages.report.drawing.thumbnails import Album, Picture
from stages.report.params import ReportParams
from stages.report.readers.images.facts import KnownFact
from stages.report.readers.images.ingest import Change, Dataset, Images, Refusal
from stages.report.readers.images.validation import Check
from stages.report.readers.images.words import change_words, reason_words
from stages.report.readers.runs import Run
from stages.report.text import number, share

TITLE = "Data"
ORDER = 10
READS = ("dataset", "images", "runs", "refusals", "changes", "facts", "checks", "album", "params")

MOST_BARS = 24
SAMPLE_BUDGET = 1_600_000  # bytes of page


@dataclass(frozen=True)
class Sample:
    """An image of the sample and its class (None without a label)."""

    key: str
    label: str | None
    picture: Picture


@dataclass(frozen=True)
class Balance:
    """The chart of class balance.

    Args:
        chart: the drawing.
        parts: names of the splits, one for each colour.
        drawn: number of classes drawn.
        classes: number of all classes.
        largest, smallest: name and number of images of the two extreme classes.
    """

    chart: Markup
    parts: tuple[str, ...]
    drawn: int
    classes: int
    largest: tuple[str, int]
    smallest: tuple[str, int]


def show(
    dataset: Dataset | None,
    images: Images | None,
    runs: tuple[Run, ...],
    refusals: tuple[Refusal, ...] | None,
    changes: tuple[Change, ...] | None,
    facts: tuple[KnownFact, ...],
    checks: tuple[Check, ...] | None,
    album: Album,
    params: ReportParams,
) -> dict[str, Any]:
    """Describe the data set, from the files found to a sample of the images kept."""
    return {
        "counts": counts_of(dataset, images, runs),
        "dataset": dataset,
        "images": images,
        "refusals": refusals,
        "changes": changes,
        "change_words": change_words,
        "facts": facts,
        "bands_words": bands_words(images),
        "checks": checks,
        "reason_words": reason_words,
        "size_words": size_words(images),
        "refused_share": refused_share(dataset, refusals),
        "balance": balance(images),
        "failed_errors": sum(not c.passed and c.level == "error" for c in checks or ()),
        "failed_warnings": sum(not c.passed and c.level != "error" for c in checks or ()),
        "samples": samples(images, album, params.samples),
    }


def counts_of(dataset: Dataset | None, images: Images | None, runs: tuple[Run, ...]) -> list[tuple[str, str, str]]:
    """List (title, value, remark) for the strip of counts above the section."""
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


def size_words(images: Images | None) -> str:
    """State the sizes of the images in a sentence."""
    if images is None or not images.total:
        return ""
    (w1, w2), (h1, h2) = images.sides[:2], images.sides[2:]
    if images.depths is not None:
        return _volume_words(images.depths, (h1, h2), (w1, w2))
    if (w1, h1) == (w2, h2):
        return f"All are {w1:,} × {h1:,} pixels."
    return f"Widths run from {w1:,} to {w2:,} pixels, heights from {h1:,} to {h2:,}."


def _volume_words(*sides: tuple[int, int]) -> str:
    """State that the samples are volumes, their depth, height and width, and what their pictures show."""
    if all(low == high for low, high in sides):
        sizes = f"They are volumes, all of {' × '.join(f'{low:,}' for low, _ in sides)} values."
    else:
        named = zip(("depths", "heights", "widths"), sides, strict=True)
        sizes = f"They are volumes: {', '.join(f'{name} from {low:,} to {high:,}' for name, (low, high) in named)}."
    return f"{sizes} Each picture shows the middle slices across depth, height and width, from the left."


def bands_words(images: Images | None) -> str:
    """State which images have other bands than grey or colour, and how pictures show them; empty without any."""
    if images is None or not (others := {bands: n for bands, n in images.bands.items() if bands not in (1, 3)}):
        return ""
    counts = ", ".join(f"{count:,} have {bands} bands" for bands, count in others.items())
    shown = "the first three as red, green and blue (of two, the first as grey)"
    return f"Of the images, {counts}; pictures on this page show {shown}."


def refused_share(dataset: Dataset | None, refusals: tuple[Refusal, ...] | None) -> str:
    """Write the share of the files found that were refused; empty when it is unknown or zero."""
    if dataset is None or not dataset.found:
        return ""
    refused = dataset.quarantined
    if refused is None and refusals is not None:
        refused = sum(r.count for r in refusals)
    return share(refused, dataset.found) if refused else ""


def balance(images: Images | None) -> Balance | None:
    """Draw a bar for each of the most frequent classes, in the data set's order; None without labels."""
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
        drawn=len(rows),
        classes=len(images.classes),
        largest=(ranked[0], totals[ranked[0]]),
        smallest=(ranked[-1], totals[ranked[-1]]),
    )


def samples(images: Images | None, album: Album, wanted: int) -> tuple[Sample, ...]:
    """Choose and scale the sample of images; empty when there are no images or no shards."""
    if images is None:
        return ()
    keys = sample_keys(images, wanted)
    pictures = album.pictures(keys, SAMPLE_BUDGET)
    return tuple(Sample(key, images.labels.get(key), pictures[key]) for key in keys if key in pictures)


def sample_keys(images: Images, wanted: int) -> list[str]:
    """Choose training images for the sample, one from each class in turn, and list them in class order.

    Keys are content hashes, so their order says nothing about the images: the first ones are a fair sample.

    Args:
        images: the images of the manifest.
        wanted: how many images to choose at most.
    """
    split = next((s for s in SPLITS if images.counts.get(s)), None)
    if split is None:
        return []
    queues: dict[str | None, list[str]] = defaultdict(list)
    for key in images.keys[split]:
        queues[images.labels.get(key)].append(key)
    place = {name: index for index, name in enumerate(images.classes)}
    order = sorted(queues, key=lambda name: place.get(name, len(place)) if name is not None else len(place))
    taken: dict[str | None, int] = dict.fromkeys(order, 0)
    left = min(wanted, len(images.keys[split]))
    while left:
        for name in order:
            if left and taken[name] < len(queues[name]):
                taken[name] += 1
                left -= 1
    return [key for name in order for key in queues[name][: taken[name]]]
