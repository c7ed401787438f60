"""Text files beside images that hold their captions: which belongs to which image, and what they say.

`a.jpg.txt` belongs to `a.jpg`. So does `a.txt`, if no other picture is called `a`. A file that may belong to several
images, or is one of several for one image, is refused, because nobody knows what is meant.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from reprise.config.errors import ImageRefused, printable
from reprise.media.text.stored import MOST_BYTES, decode_captions
from reprise.storage.listing import read_regular
from reprise.storage.walk import Entry
from stages.ingest.source import Refused

EXTENSION = ".txt"


@dataclass(frozen=True)
class CaptionFiles:
    """The captions of a folder.

    Attributes:
        captions: path of an image below the root -> its captions.
        files: paths of the text files that belong to images, read or refused.
        refused: the files that cannot be used, by their path below the root.
        images: number of pictures by their names.
    """

    captions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    files: frozenset[str] = frozenset()
    refused: Mapping[str, Refused] = field(default_factory=dict)
    images: int = 0

    @property
    def said(self) -> str:
        """What was found, a sentence."""
        return (
            f"Captions: {len(self.captions):,} of {self.images:,} images have a text file beside them with "
            f"{sum(map(len, self.captions.values())):,} captions."
        )


def read_caption_files(
    entries: Iterable[Entry], shown: Mapping[str, str], claims: Callable[[str], bool]
) -> CaptionFiles:
    """Find and read the text files that belong to images.

    Args:
        entries: regular files.
        shown: path below the root -> name in messages.
        claims: tells whether a name is that of a sample.
    """
    by_name = {entry.text: entry for entry in entries}
    images = [name for name in by_name if not _is_text(name) and claims(name)]
    owners = _owners(list(by_name), images)
    texts_of: dict[str, list[str]] = defaultdict(list)
    for text, of in owners.items():
        for image in of:
            texts_of[image].append(text)
    captions: dict[str, tuple[str, ...]] = {}
    refused: dict[str, Refused] = {}
    for text, of in owners.items():
        rivals = [other for other in texts_of[of[0]] if other != text]
        if len(of) > 1 or rivals:
            several = "it may belong to " + " or ".join(printable(name, 80) for name in of[:2])
            detail = several if len(of) > 1 else f"{printable(rivals[0], 80)} belongs to the same image"
            fix = "Name it after the whole name of the image, such as a.jpg.txt, and keep one for each image"
            refused[text] = Refused(shown[text], "ambiguous_caption", f"{detail}. {fix}.")
            continue
        try:
            captions[of[0]] = decode_captions(read_regular(by_name[text].path, MOST_BYTES), shown[text])
        except ImageRefused as refusal:
            refused[text] = Refused(shown[text], refusal.what, f"{refusal.found}. {refusal.fix}")
    return CaptionFiles(captions, frozenset(owners), refused, len(images))


def _owners(names: list[str], images: list[str]) -> dict[str, list[str]]:
    """Return text file -> the images that it may belong to, in the order of `names`; files of no image are left out."""
    present = set(images)
    by_stem: dict[str, list[str]] = defaultdict(list)
    for image in images:
        by_stem[os.path.splitext(image)[0]].append(image)
    owners: dict[str, list[str]] = {}
    for name in names:
        if _is_text(name):
            stem = os.path.splitext(name)[0]
            of = [stem] if stem in present else by_stem.get(stem, [])
            if of:
                owners[name] = of
    return owners


def _is_text(name: str) -> bool:
    return name.casefold().endswith(EXTENSION)
