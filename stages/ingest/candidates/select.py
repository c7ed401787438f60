"""Choose which images stay where there are copies, and give each image a split. Pure functions on rows.

Copies are images with equal pixels, whatever their files; splits follow from the hash of the file. Nothing here depends
on names or on the order of a listing, except which of several copies with one label stays: the first by name.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from reprise.artifacts.manifest import KEY_DIGITS
from reprise.media.modality import Examined, Facts
from stages.ingest.source import Candidate, Refused

PRECEDENCE = ("test", "val", "train", None)  # which split keeps an image that several hold


@dataclass(frozen=True)
class Image:
    """A candidate that decodes, or a page of one.

    Attributes:
        candidate: where it comes from.
        sha256: of the file.
        bytes: length of the file.
        facts: its modality's columns of the manifest.
        page: what examining it showed besides; its `part` names it where the file holds several images.
        sketch: number of its sketch, by which near-copies are found.
    """

    candidate: Candidate
    sha256: str
    bytes: int
    facts: Facts
    page: Examined = field(default_factory=lambda: Examined({}))
    sketch: int = 0

    @property
    def key(self) -> str:
        """The key of the manifest: the first digits of the hash of the file, or of that hash and the page."""
        return self.content[:KEY_DIGITS]

    @property
    def content(self) -> str:
        """What tells the image from all others: the hash of the file, or of that hash and the page."""
        part = self.page.part
        return hashlib.sha256(f"{self.sha256} {part}".encode()).hexdigest() if part else self.sha256

    @property
    def pixels(self) -> str:
        """The digest of the decoded pixels."""
        return str(self.facts["pixels"])


def resolve_duplicates(images: Iterable[Image]) -> tuple[list[Image], list[Refused]]:
    """Keep one copy of each picture: files whose decoded pixels are equal are copies.

    Of copies within a split that have one label (or none), the first by name stays; copies whose labels differ are all
    refused. Of copies in several splits, the one in test stays before val, and val before train: an image of test must
    never be trained on, and the test split must not shrink because of a copy elsewhere.

    Returns:
        kept images, and refused copies (label_conflict, duplicate, duplicate_across_splits).
    """
    by_pixels: dict[str, list[Image]] = defaultdict(list)
    for image in images:
        by_pixels[image.pixels].append(image)
    kept: list[Image] = []
    refused: list[Refused] = []
    for copies in by_pixels.values():
        copies.sort(key=lambda image: (image.candidate.label is None, image.candidate.name))
        stays: Image | None = None
        for split in PRECEDENCE:
            in_split = [image for image in copies if image.candidate.split == split]
            labels = sorted({image.candidate.label for image in in_split if image.candidate.label is not None})
            if len(labels) > 1:
                refused += [
                    _refuse(
                        i,
                        "label_conflict",
                        f"the same image is labelled {', '.join(map(repr, labels))}: remove the wrong copies",
                    )
                    for i in in_split
                ]
                continue
            for image in in_split:
                if stays is None:
                    stays = image
                elif stays.candidate.split == split:
                    refused.append(_refuse(image, "duplicate", f"{_same(image, stays)} as {stays.candidate.name}"))
                else:
                    refused.append(
                        _refuse(
                            image,
                            "duplicate_across_splits",
                            f"{_same(image, stays)} as {stays.candidate.name} of {stays.candidate.split}",
                        )
                    )
        if stays is not None:
            kept.append(stays)
    return kept, refused


def _same(image: Image, other: Image) -> str:
    return "the same bytes" if image.sha256 == other.sha256 else "the same pixels in another file"


def _refuse(image: Image, reason: str, detail: str) -> Refused:
    return Refused(image.candidate.name, reason, detail, image.sha256)


def assign_splits(
    images: Iterable[Image], val_fraction: float, test_fraction: float, joined: Mapping[str, str] | None = None
) -> list[Image]:
    """Give every image a split.

    Images without one belong to train. Where the source has no test split, `test_fraction` of train becomes test; where
    it has no validation split, `val_fraction` of the remaining train becomes val. The hash of the content decides (that
    of the group, where there is one), so adding images moves none of the others. A split that would stay empty gets one
    image or group.

    Args:
        images: without exact copies.
        val_fraction, test_fraction: shares of val and test.
        joined: key -> the unit that stays in one split, for images that share one with their near-copies.
    """
    units = {image.key: unit_of(image) for image in images} | dict(joined or {})
    rows = [image if image.candidate.split else _moved(image, "train") for image in images]
    for split, fraction in (("test", test_fraction), ("val", val_fraction)):
        if fraction == 0 or any(image.candidate.split == split for image in rows):
            continue
        train = {units[image.key] for image in rows if image.candidate.split == "train"}
        positions = {unit: _position(split, unit) for unit in train}
        chosen = {unit for unit, position in positions.items() if position < fraction}
        if not chosen and len(positions) > 1:
            chosen = {min(positions, key=lambda unit: (positions[unit], unit))}
        rows = [_moved(i, split) if i.candidate.split == "train" and units[i.key] in chosen else i for i in rows]
    return rows


def unit_of(image: Image) -> str:
    """Return what decides about the split of an image by itself: its content, or its group."""
    return image.content if image.candidate.group is None else f"group {image.candidate.group}"


def _position(split: str, unit: str) -> float:
    """Map an image or group to a number in [0, 1), uniform over units and independent between splits."""
    return int.from_bytes(hashlib.sha256(f"{split}\0{unit}".encode()).digest()[:6], "big") / 2**48


def _moved(image: Image, split: str) -> Image:
    return replace(image, candidate=replace(image.candidate, split=split))
