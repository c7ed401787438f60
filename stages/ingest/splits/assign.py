"""Give every image a split, in the way that `source.split` names.

`hash` and `folds` decide about each image (or group) by itself, so images that are added move none of the others: no
image of yesterday's test split is trained on tomorrow. `random`, `stratified` and `stratified_folds` give exact shares,
which depend on all images together; there, images that are added may move others. That cannot be had together: a split
whose size is exact has to give back an image when the shares change.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from reprise.config.errors import SourceError, printable
from stages.ingest.candidates.select import Image, unit_of
from stages.ingest.source import Candidate, Refused
from stages.ingest.splits.deal import Unit, deal_folds, deal_share
from stages.ingest.splits.params import FOLDS, SplitParams

Item = TypeVar("Item")
_SHOWN = 8  # classes in a sentence


@dataclass(frozen=True)
class Assigned:
    """Images with their splits.

    Attributes:
        rows: the images.
        refused: images that get no split.
        said: sentences for the terminal and the report.
    """

    rows: list[Image]
    refused: list[Refused]
    said: list[str]


def without_given(items: Iterable[Item], split: SplitParams) -> tuple[list[Item], list[str]]:
    """Take the source's splits from its candidates where `source.split.given` says so, and say it."""
    items = list(items)
    if split.given == "keep":
        return items, []
    count = sum(isinstance(item, Candidate) and item.split is not None for item in items)
    plain = [replace(item, split=None) if isinstance(item, Candidate) else item for item in items]
    return plain, [f"The splits that the source gives to {count:,} files are ignored (source.split.given)."]


def assign_splits(
    images: Iterable[Image],
    val_fraction: float,
    test_fraction: float,
    joined: Mapping[str, str] | None = None,
    split: SplitParams | None = None,
) -> Assigned:
    """Give every image a split.

    Images without one belong to train. Where the source has no test split, `test_fraction` of train becomes test; where
    it has no validation split, `val_fraction` of the remaining train becomes val. A split that would stay empty gets
    one image or group. With folds, one of them becomes test (val, where the source has a test split).

    Args:
        images: without exact copies.
        val_fraction, test_fraction: shares of val and test.
        joined: key -> the unit that stays in one split, for images that share one with their near-copies.
        split: the way; by the hash if it is left out.

    Raises:
        SourceError: the source gives no splits, and nothing else may; or the fold holds no image.
    """
    rows, split = list(images), split or SplitParams()
    if split.by == "given":
        return _as_given(rows)
    units = {image.key: unit_of(image) for image in rows} | dict(joined or {})
    rows = [image if image.candidate.split else _moved(image, "train") for image in rows]
    said = _said(split)
    if split.by in FOLDS:
        into = "val" if any(row.candidate.split == "test" for row in rows) else "test"
        said.append(f"Fold {split.fold} of 0 to {split.folds - 1} is {into}; the others are train.")
        rows = _with_fold(rows, units, split, into, said)
    for name, fraction in (("test", test_fraction), ("val", val_fraction)):
        if fraction == 0 or any(image.candidate.split == name for image in rows):
            continue
        train = [row for row in rows if row.candidate.split == "train"]
        if split.by in ("hash", "folds"):
            chosen = _below(name, fraction, {units[row.key] for row in train}, split.seed, said)
        else:
            order = {unit: position(name, unit, split.seed) for unit in {units[row.key] for row in train}}
            chosen, short = deal_share(_units(train, units, split.by != "random"), fraction, order)
            said += _too_few(name, short) if split.by != "random" else []
        rows = [_moved(i, name) if i.candidate.split == "train" and units[i.key] in chosen else i for i in rows]
    return Assigned(rows, [], said)


def position(split: str, unit: str, seed: int = 0) -> float:
    """Map an image or group to a number in [0, 1), uniform over units and independent between splits and seeds."""
    text = f"{split}\0{unit}" if seed == 0 else f"{split}\0{seed}\0{unit}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


def _below(split: str, fraction: float, units: set[str], seed: int, said: list[str]) -> set[str]:
    """Choose units whose positions lie below the fraction; if none does, and there are several, the lowest one."""
    positions = {unit: position(split, unit, seed) for unit in units}
    chosen = {unit for unit, place in positions.items() if place < fraction}
    if chosen or len(positions) < 2:
        return chosen
    one = "one was chosen (or one group); with more images it may be another one"
    said.append(f"By the hash, no image would be {split}, so {one}.")
    return {min(positions, key=lambda unit: (positions[unit], unit))}


def _with_fold(
    rows: list[Image], units: Mapping[str, str], split: SplitParams, into: str, said: list[str]
) -> list[Image]:
    """Move one fold of train into another split.

    Raises:
        SourceError: the fold holds no image, or all of them.
    """
    train = [row for row in rows if row.candidate.split == "train"]
    places = {unit: position("folds", unit, split.seed) for unit in {units[row.key] for row in train}}
    if split.by == "folds":
        folds = {unit: int(place * split.folds) for unit, place in places.items()}
    else:
        folds, short = deal_folds(_units(train, units, True), split.folds, places)
        said += _too_few(f"each of {split.folds} folds", short)
    chosen = {unit for unit, fold in folds.items() if fold == split.fold}
    if not chosen or len(chosen) == len(folds):
        raise SourceError(
            f"fold {split.fold} of 0 to {split.folds - 1} must hold some of the images, and not all of them",
            where="source.split",
            found=f"{len(chosen):,} of {len(folds):,} images and groups",
            fix="Lower source.split.folds, or choose `by: stratified_folds`, which makes folds of one size.",
        )
    return [_moved(i, into) if i.candidate.split == "train" and units[i.key] in chosen else i for i in rows]


def _units(rows: Sequence[Image], units: Mapping[str, str], by_class: bool) -> list[Unit]:
    """Make the units of images: how many images each has, and the class of most of them."""
    labels: dict[str, Counter[str]] = defaultdict(Counter)
    sizes: Counter[str] = Counter()
    for row in rows:
        unit = units[row.key]
        sizes[unit] += 1
        if by_class and row.candidate.label is not None:
            labels[unit][row.candidate.label] += 1
    return [
        Unit(unit, size, min(labels[unit], key=lambda name: (-labels[unit][name], name)) if labels[unit] else None)
        for unit, size in sorted(sizes.items())
    ]


def _as_given(rows: list[Image]) -> Assigned:
    """Keep what the source says, and refuse images of which it says nothing.

    Raises:
        SourceError: it says nothing at all.
    """
    kept = [row for row in rows if row.candidate.split is not None]
    if rows and not kept:
        raise SourceError(
            "source.split.by is `given`, and the source gives no splits",
            where="source.split",
            found=f"{len(rows):,} images without a split",
            fix="Choose another way in source.split.by, or tell the source where the splits are.",
        )
    detail = "the source gives it no split, and source.split.by is `given`"
    refused = [Refused(i.candidate.name, "no_split", detail, i.sha256) for i in rows if i.candidate.split is None]
    return Assigned(kept, refused, ["Splits are those that the source gives (source.split)."])


def _said(split: SplitParams) -> list[str]:
    if split.by in ("hash", "folds"):
        return []
    shares = "shares of each class" if split.by == "stratified" else "shares"
    what = "equal folds of each class" if split.by == "stratified_folds" else f"exact {shares}"
    drawn = f"Splits are drawn with {what} (source.split.by: {split.by}, seed {split.seed})"
    return [f"{drawn}: images that are added may move others between the splits, also from test to train."]


def _too_few(where: str, short: Sequence[tuple[str | None, int]]) -> list[str]:
    """Name classes that have too few images or groups to be in a split, with their numbers."""
    if not short:
        return []
    names = [f"{'without a class' if name is None else printable(name, 60)} {count}" for name, count in short[:_SHOWN]]
    more = f" and {len(short) - _SHOWN:,} more" if len(short) > _SHOWN else ""
    what = "1 class has" if len(short) == 1 else f"{len(short):,} classes have"
    return [f"{what} too few images or groups to be in {where}: {', '.join(names)}{more}."]


def _moved(image: Image, split: str) -> Image:
    return replace(image, candidate=replace(image.candidate, split=split))
