"""What the page says about the data, read from the artifacts of ingest and validate into typed values.

A missing artifact gives None (the page says so in a sentence); a damaged one raises the contract's error.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from reprise.artifacts.manifest import DATASET, MANIFEST, QUARANTINE, SPLITS, read_manifest, read_quarantine
from reprise.artifacts.results import read_json
from stages.report.shape import expected_shape, read_object

VALIDATION = Path("data/validate/validation.json")
_EXAMPLES = 3


@dataclass(frozen=True)
class Refusal:
    """Files refused for one reason: how many, and the first few as (path, sentence)."""

    reason: str
    count: int
    examples: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Images:
    """What the manifest holds. `labels` maps key to class for images that have one; keys are sorted."""

    counts: dict[str, int]  # split -> images
    classes: tuple[str, ...]  # in the data set's order
    class_counts: dict[str, tuple[int, ...]]  # class -> images per split of SPLITS
    labels: dict[str, str]
    keys: dict[str, tuple[str, ...]]  # split -> keys
    sides: tuple[int, int, int, int]  # smallest and largest width, smallest and largest height
    groups: int

    @property
    def total(self) -> int:
        """Images kept."""
        return sum(self.counts.values())


@dataclass(frozen=True)
class Dataset:
    """dataset.json: what ingest says about the source."""

    name: str
    source: str
    citation: str
    licence: str
    found: int | None
    kept: int | None
    quarantined: int | None
    notes: tuple[str, ...]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Check:
    """One expectation of the validation and how it went."""

    name: str
    level: str  # error or warning
    passed: bool
    found: str
    keys: tuple[str, ...]


@dataclass(frozen=True)
class DataPart:
    """Everything of the data side; None or empty where the artifact is missing."""

    dataset: Dataset | None
    images: Images | None
    refusals: tuple[Refusal, ...] | None
    checks: tuple[Check, ...] | None


def gather_data() -> DataPart:
    """Read data/ingest and data/validate.

    Raises:
        ManifestError, ResultError: an artifact is there but damaged.
    """
    dataset = _dataset() if DATASET.exists() else None
    images = summarize(read_manifest(), dataset.classes if dataset else ()) if MANIFEST.exists() else None
    refusals = group_refusals(read_quarantine()) if QUARANTINE.exists() else None
    checks = None
    if VALIDATION.exists():
        raw = read_json(VALIDATION, "Run `dvc repro validate` to write it again.")
        with expected_shape(VALIDATION, "validate"):
            checks = tuple(_check(row) for row in raw)
    return DataPart(dataset, images, refusals, checks)


def _dataset() -> Dataset:
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
        )


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
    return Images(
        counts={split: len(by_split[split]) for split in SPLITS if split in by_split},
        classes=classes,
        class_counts={name: tuple(counted[name][split] for split in SPLITS) for name in classes},
        labels={key: label for key, label in zip(keys, labels, strict=True) if label is not None},
        keys={split: tuple(sorted(by_split[split])) for split in by_split},
        sides=tuple(extreme[end] or 0 for extreme in extremes for end in ("min", "max")),  # type: ignore[arg-type]
        groups=len(set(manifest["group"].drop_null().to_pylist())),
    )


def group_refusals(quarantine: pa.Table) -> tuple[Refusal, ...]:
    """Refused files by reason, the most frequent first."""
    rows: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for path, reason, detail in zip(
        *(quarantine[name].to_pylist() for name in ("path", "reason", "detail")), strict=True
    ):
        rows[reason].append((path, detail))
    ordered = sorted(rows.items(), key=lambda item: (-len(item[1]), item[0]))
    return tuple(Refusal(reason, len(found), tuple(sorted(found)[:_EXAMPLES])) for reason, found in ordered)


def sample_keys(images: Images, wanted: int) -> list[str]:
    """Keys for the sample grid: training images, one class after the other in turns, then in class order.

    Keys are content hashes, so their order says nothing about the images: the first ones are a fair sample.
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


def _check(row: dict[str, Any]) -> Check:
    column = f".{row['column']}" if row.get("column") else ""
    return Check(
        name=f"{row['says']} ({row['table']}{column})",
        level=row["severity"],
        passed=row["success"],
        found=_observed(row.get("observed"), row.get("threshold") or {}),
        keys=tuple(map(str, row.get("examples") or ())),
    )


def _observed(observed: Any, threshold: dict[str, Any]) -> str:
    """What was seen and what is allowed, in words."""
    if isinstance(observed, dict) and set(observed) == {"rows", "unexpected"}:
        return f"{observed['unexpected']:,} of {observed['rows']:,} rows differ"
    if isinstance(observed, list):
        return f"{len(observed)} columns"
    seen = ", ".join(f"{k} {v}" for k, v in observed.items()) if isinstance(observed, dict) else str(observed)
    limits = [
        f"{words} {threshold[key]}"
        for key, words in (("min_value", "at least"), ("max_value", "at most"))
        if threshold.get(key) is not None
    ]
    return f"{seen} ({', '.join(limits)})" if limits else seen
