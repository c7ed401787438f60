"""What ingest understood and did, in sentences for the terminal and the report: nothing is guessed in silence."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from reprise.artifacts.manifest import SPLITS
from reprise.config.errors import printable
from stages.ingest.candidates.select import Image
from stages.ingest.source import LeftOut, Refused

_CLASSES, _EXTENSIONS = 12, 6  # named in a sentence; dataset.json holds all
_WORDS = {
    "hidden": "hidden",
    "system_file": "of the system (Thumbs.db, desktop.ini, __MACOSX and the like)",
    "other_file": "no images and not named as such",
    "no_pixels": "DICOM files without a picture",
    "unlabelled_test": "whole test set without public labels",
}
COPIES = ("duplicate", "duplicate_across_splits", "label_conflict", "near_duplicate", "near_duplicate_across_splits")


def reasons(items: Iterable[Refused | LeftOut]) -> dict[str, int]:
    """Count entries by reason, the most frequent first."""
    counts = Counter(item.reason for item in items)
    return dict(sorted(counts.items(), key=lambda count: (-count[1], count[0])))


def by_reason(items: Iterable[Refused | LeftOut]) -> str:
    """Write the counts of `reasons` in a line."""
    return _listed(reasons(items)) or "nothing"


def state(
    card: Mapping[str, Any], understood: Sequence[str], rows: Sequence[Image], left_out: Sequence[LeftOut]
) -> list[str]:
    """Say how the source was read and what became of its entries.

    Args:
        card: the data set card, with all counts.
        understood: what the source says about its names and folders.
        rows: the images kept.
        left_out: what nobody means as an image.
    """
    return [
        *understood,
        _classes(card, sum(row.candidate.label is None for row in rows)),
        *_only_in_one_split(rows),
        f"Splits: {', '.join(f'{split} {count:,}' for split, count in card['counts'].items())}.",
        *_refusals(card["refused"]),
        *_left_out(card["left_out"], left_out),
    ]


def _classes(card: Mapping[str, Any], unlabelled: int) -> str:
    counts = card["class_counts"]
    if not counts:
        return f"Classes: none; {unlabelled:,} images have no label."
    shown = sorted(counts, key=lambda name: (-counts[name], name))[:_CLASSES]
    more = f" and {len(counts) - len(shown):,} more" if len(counts) > len(shown) else ""
    words = ", ".join(f"{printable(name, 60)} {counts[name]:,}" for name in shown)
    rest = f"; {unlabelled:,} images have no label" if unlabelled else ""
    return f"Classes: {len(counts):,} ({words}{more}){rest}."


def _only_in_one_split(rows: Sequence[Image]) -> list[str]:
    """Name classes that no image of train has: folders may hold something else there than classes."""
    classes: dict[str, set[str]] = {split: set() for split in SPLITS}
    for row in rows:
        if row.candidate.label is not None and row.candidate.split is not None:
            classes[row.candidate.split].add(row.candidate.label)
    said = []
    for split in ("val", "test"):
        unknown = sorted(classes[split] - classes["train"])
        if classes["train"] and unknown:
            more = f" and {len(unknown) - _CLASSES:,} more" if len(unknown) > _CLASSES else ""
            names = ", ".join(printable(name, 60) for name in unknown[:_CLASSES])
            said.append(
                f"{len(unknown):,} of {len(classes[split]):,} classes of {split} are not in train: {names}{more}."
            )
    return said


def _refusals(counts: Mapping[str, int]) -> list[str]:
    copies = {reason: count for reason, count in counts.items() if reason in COPIES}
    others = {reason: count for reason, count in counts.items() if reason not in COPIES}
    return [
        *([f"Copies refused: {_listed(copies)}."] if copies else []),
        *([f"Refused: {_listed(others)}."] if others else []),
    ]


def _left_out(counts: Mapping[str, int], items: Sequence[LeftOut]) -> list[str]:
    if not counts:
        return []
    parts = [f"{count:,} {_WORDS.get(reason, reason)}" for reason, count in counts.items()]
    kinds = Counter(
        os.path.splitext(item.name)[1].casefold() or "no extension" for item in items if item.reason == "other_file"
    )
    if kinds:
        ranked = sorted(kinds.items(), key=lambda kind: (-kind[1], kind[0]))
        more = f", {sum(n for _, n in ranked[_EXTENSIONS:]):,} others" if len(ranked) > _EXTENSIONS else ""
        shown = ", ".join(f"{printable(kind, 20)} {count:,}" for kind, count in ranked[:_EXTENSIONS])
        parts[list(counts).index("other_file")] += f" ({shown}{more})"
    return [f"Left out: {'; '.join(parts)}."]


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in counts.items())
