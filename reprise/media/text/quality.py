"""What to know of the captions of a data set before anything is trained on them. Counts, and sentences that say them.

Captions that train and the scored images have in common are no error (a hundred pictures may be "a dog"), but they make
it easy to find the partner of a test image, so they are counted. Two captions are the same if they differ only in case,
spaces, and forms of letters and accents (rules.comparable).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from reprise.media.text.rules import comparable, is_composed

FILE = "captions.json"  # in data/facts/all, where images have captions: fact -> counts
TRAIN = "train"


@dataclass(frozen=True)
class Quality:
    """Counts over the captions of one fact.

    Attributes:
        images: all images.
        known: images with a caption.
        texts: captions.
        different: captions that are not the same.
        repeated: images of which every caption is also one of another image.
        across: split other than train -> its images that have a caption in common with an image of train.
        longest: characters of the longest caption.
        words: words of the one with the most; a tokenizer makes at least a token of each.
        decomposed: captions whose accents are characters of their own (not NFC). They are kept as they are.
    """

    images: int
    known: int
    texts: int
    different: int
    repeated: int
    across: Mapping[str, int]
    longest: int
    words: int
    decomposed: int

    def as_json(self) -> dict[str, Any]:
        """Return the counts by name."""
        return asdict(self)

    def sentences(self, name: str) -> list[str]:
        """Say what a person should know; the first sentence always, others where there is something to say.

        Args:
            name: of the fact.
        """
        counts = f"{self.texts:,} of {self.known:,} images, {self.different:,} of them different"
        said = [f"Captions ({name}): {counts}, with up to {self.longest:,} characters and {self.words:,} words."]
        if self.known < self.images:
            said.append(f"{self.images - self.known:,} of {self.images:,} images have no caption ({name}).")
        if self.repeated:
            said.append(f"{self.repeated:,} images share each of their captions with another image ({name}).")
        said += [
            f"{count:,} images of {split} have a caption that an image of train has too ({name})."
            for split, count in sorted(self.across.items())
            if count
        ]
        if self.decomposed:
            said.append(
                f"{self.decomposed:,} captions ({name}) have accents as characters of their own; they are kept so, and "
                "the tokenizer composes them."
            )
        return said


def quality(captions: Sequence[tuple[str, ...]], splits: Sequence[str]) -> Quality:
    """Count.

    Args:
        captions: of each image, empty where it has none.
        splits: of each image.
    """
    forms = [{comparable(text) for text in texts} for texts in captions]
    images_of: dict[str, int] = {}
    trained: set[str] = set()
    for own, split in zip(forms, splits, strict=True):
        for form in own:
            images_of[form] = images_of.get(form, 0) + 1
        if split == TRAIN:
            trained |= own
    across: dict[str, int] = {}
    for own, split in zip(forms, splits, strict=True):
        if split != TRAIN:
            across[split] = across.get(split, 0) + bool(own & trained)
    texts = [text for own in captions for text in own]
    return Quality(
        images=len(captions),
        known=sum(map(bool, captions)),
        texts=len(texts),
        different=len(images_of),
        repeated=sum(bool(own) and all(images_of[form] > 1 for form in own) for own in forms),
        across=across,
        longest=max(map(len, texts), default=0),
        words=max((len(text.split()) for text in texts), default=0),
        decomposed=sum(not is_composed(text) for text in texts),
    )
