"""Choose which images stay where there are copies. Pure functions on rows.

Copies are images with equal pixels, whatever their files. Nothing here depends on names or on the order of a listing,
except which of several copies with one label stays: the first by name.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from reprise.artifacts.manifest import KEY_DIGITS
from reprise.media.modality import Examined, Facts
from stages.ingest.source import Candidate, Refused

_OTHER_FACTS = "but with other facts"
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


def lost_with_copies(refused: Iterable[Refused]) -> list[str]:
    """Say what is lost where copies say more of their image than the one that stays: captions, most often.

    Args:
        refused: copies, from `resolve_duplicates`.
    """
    count = sum(_OTHER_FACTS in copy.detail for copy in refused)
    if not count:
        return []
    copies = "1 refused copy says" if count == 1 else f"{count:,} refused copies say"
    left_out = (
        f"{copies} other facts of an image than the copy that stays, and they are left out: state all of an image"
    )
    return [f"{left_out} in one place. Several captions are a list in its row, or rows that name the same file."]


def _same(image: Image, other: Image) -> str:
    words = "the same bytes" if image.sha256 == other.sha256 else "the same pixels in another file"
    more = _other_facts(image.candidate, other.candidate)
    return f"{words}, {_OTHER_FACTS} ({', '.join(more)})," if more else words


def _other_facts(copy: Candidate, stays: Candidate) -> list[str]:
    """Name the facts of a copy that the other lacks or states otherwise; those that are made later are not compared."""
    plain = (str, int, float, list, tuple)
    return sorted(
        name
        for name, value in copy.facts.items()
        if isinstance(value, plain) and isinstance(stays.facts.get(name, ""), plain) and value != stays.facts.get(name)
    )


def _refuse(image: Image, reason: str, detail: str) -> Refused:
    return Refused(image.candidate.name, reason, detail, image.sha256)


def unit_of(image: Image) -> str:
    """Return what decides about the split of an image by itself: its content, or its group."""
    return image.content if image.candidate.group is None else f"group {image.candidate.group}"
