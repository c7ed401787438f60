"""What ingest wrote: dataset.json, the manifest and the quarantine table, as typed values.

A missing artifact gives None (the page says so in a sentence); a damaged one raises the error of its format.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from reprise.artifacts.facts.names import read_names, with_names
from reprise.artifacts.layout import DATASET, INGEST, MANIFEST, NOTES, QUARANTINE
from reprise.artifacts.manifest import SPLITS, read_manifest, read_notes, read_quarantine
from reprise.artifacts.shards import Shards
from stages.report.readers.shape import expected_shape, read_object

STORED_SMALLER = "stored_smaller"
_EXAMPLES = 3


@dataclass(frozen=True)
class Refusal:
    """Files refused for one reason.

    Args:
        reason: the code in the quarantine table ("unsupported_depth").
        count: number of files.
        examples: the first few files as (path, sentence).
    """

    reason: str
    count: int
    examples: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Change:
    """Images that were changed in one way before any network sees them.

    Args:
        note: the code in the table of notes ("turned"), or STORED_SMALLER.
        count: number of images.
        examples: the first few as (path, what was done).
    """

    note: str
    count: int
    examples: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Images:
    """The images of the manifest.

    Args:
        counts: split -> number of images.
        classes: class names in the data set's order.
        class_counts: class -> number of images in each split, in the order of `SPLITS`.
        labels: key -> class, for the images that have one.
        keys: split -> keys, sorted.
        sides: smallest and largest width, smallest and largest height, in pixels.
        groups: number of groups (of one patient, say) among the images.
        bands: number of images by their number of bands.
        names: key -> path below the folder that all files share, for the images that are files of their own.
    """

    counts: dict[str, int]
    classes: tuple[str, ...]
    class_counts: dict[str, tuple[int, ...]]
    labels: dict[str, str]
    keys: dict[str, tuple[str, ...]]
    sides: tuple[int, int, int, int]
    groups: int
    bands: dict[int, int] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    depths: tuple[int, int] | None = None

    @property
    def total(self) -> int:
        """Number of images kept."""
        return sum(self.counts.values())


@dataclass(frozen=True)
class Dataset:
    """The description of the data set in dataset.json."""

    name: str
    source: str
    citation: str
    licence: str
    found: int | None
    kept: int | None
    quarantined: int | None
    notes: tuple[str, ...]
    classes: tuple[str, ...]
    understood: tuple[str, ...] = ()


def read_dataset() -> Dataset | None:
    """Read dataset.json.

    Raises:
        ResultError: the file is damaged.
    """
    if not DATASET.exists():
        return None
    raw = read_object(DATASET, "ingest")
    with expected_shape(DATASET, "ingest"):
        return Dataset(
            name=str(raw.get("name") or raw.get("source") or "unnamed data set"),
            source=str(raw.get("source") or ""),
            citation=str(raw.get("citation") or ""),
            licence=str(raw.get("licence") or ""),
            found=raw.get("found"),
            kept=raw.get("kept"),
            quarantined=raw.get("quarantined"),
            notes=tuple(str(n) for n in raw.get("notes") or ()),
            classes=tuple(str(c) for c in raw.get("classes") or ()),
            understood=tuple(str(sentence) for sentence in raw.get("understood") or ()),
        )


def read_images(class_order: tuple[str, ...]) -> Images | None:
    """Read and count the manifest.

    Args:
        class_order: class names in the order in which the page shows them; further classes follow, sorted.

    Raises:
        ManifestError: the file is damaged.
    """
    return summarize(read_manifest(), class_order) if MANIFEST.exists() else None


def read_refusals() -> tuple[Refusal, ...] | None:
    """Read the quarantine table and count it by reason.

    Raises:
        ManifestError: the file is damaged.
    """
    return count_refusals(read_quarantine()) if QUARANTINE.exists() else None


def read_changes(shards: Shards | None) -> tuple[Change, ...] | None:
    """Read the table of notes and count it; images that the shards hold in a smaller size are one kind of change.

    Raises:
        ManifestError: a file is damaged.
    """
    if not NOTES.exists():
        return None
    notes = read_notes()
    rows: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for note, path, detail in zip(*(notes[name].to_pylist() for name in ("note", "path", "detail")), strict=True):
        rows[note].append((path, detail))
    if shards is not None and MANIFEST.exists():
        rows[STORED_SMALLER] = _stored_smaller(shards)
    ordered = sorted((note for note in rows if rows[note]), key=lambda note: (-len(rows[note]), note))
    return tuple(Change(note, len(rows[note]), tuple(rows[note][:_EXAMPLES])) for note in ordered)


def _stored_smaller(shards: Shards) -> list[tuple[str, str]]:
    """List (path, what was done) of images that the shards hold scaled down."""
    stored = zip(shards.widths.tolist(), shards.heights.tolist(), strict=True)
    sizes = dict(zip(shards.keys.tolist(), stored, strict=True))
    manifest, names = read_manifest(columns=["key", "path", "width", "height"]), read_names()
    return [
        (
            names.get(row["key"], row["path"]),
            f"{row['width']} x {row['height']} pixels become {' x '.join(map(str, sizes[row['key']]))}",
        )
        for row in manifest.to_pylist()
        if row["key"] in sizes and sizes[row["key"]] != (row["width"], row["height"])
    ]


def summarize(manifest: pa.Table, class_order: tuple[str, ...]) -> Images:
    """Count a manifest's rows by split and class."""
    keys, splits, labels = (manifest[name].to_pylist() for name in ("key", "split", "label"))
    by_split: dict[str, list[str]] = defaultdict(list)
    counted: dict[str, Counter[str]] = defaultdict(Counter)
    for key, split, label in zip(keys, splits, labels, strict=True):
        by_split[split].append(key)
        if label is not None:
            counted[label][split] += 1
    known = [name for name in class_order if name in counted]
    classes = (*known, *sorted(counted.keys() - set(known)))
    extremes = [pc.min_max(manifest[side]).as_py() for side in ("width", "height")]
    depths = pc.min_max(manifest["depth"]).as_py() if "depth" in manifest.column_names else None
    return Images(
        counts={split: len(by_split[split]) for split in SPLITS if split in by_split},
        classes=classes,
        class_counts={name: tuple(counted[name][split] for split in SPLITS) for name in classes},
        labels={key: label for key, label in zip(keys, labels, strict=True) if label is not None},
        keys={split: tuple(sorted(by_split[split])) for split in by_split},
        sides=tuple(extreme[end] or 0 for extreme in extremes for end in ("min", "max")),  # type: ignore[arg-type]
        groups=len(set(manifest["group"].drop_null().to_pylist())),
        bands=dict(sorted(Counter(manifest["channels"].to_pylist()).items())),
        names=file_names(keys, with_names(keys, manifest["path"].to_pylist())),
        depths=None if depths is None else (depths["min"], depths["max"]),
    )


def file_names(keys: Sequence[str], paths: Sequence[str]) -> dict[str, str]:
    """Name each image by its path below the folder that all files share; images inside the tar of ingest have none."""
    files = {key: path for key, path in zip(keys, paths, strict=True) if not Path(path).is_relative_to(INGEST)}
    if not files:
        return {}
    folder = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in files.values()])
    return {key: os.path.relpath(os.path.abspath(path), folder) for key, path in files.items()}


def count_refusals(quarantine: pa.Table) -> tuple[Refusal, ...]:
    """Count refused files by reason, the most frequent reason first."""
    rows: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for path, reason, detail in zip(
        *(quarantine[name].to_pylist() for name in ("path", "reason", "detail")), strict=True
    ):
        rows[reason].append((path, detail))
    ordered = sorted(rows.items(), key=lambda item: (-len(item[1]), item[0]))
    return tuple(Refusal(reason, len(files), tuple(sorted(files)[:_EXAMPLES])) for reason, files in ordered)
