"""stl10: 13,000 labelled and 100,000 unlabelled colour images of 96 x 96 pixels, from the official binary files.

`source.root` is the folder stl10_binary. The images without a class are part of train, as the data set's protocol
means them; with `fold`, only the 1,000 training images of that fold keep their class. Nothing is downloaded.

Source: Coates, Lee, Ng, "An Analysis of Single-Layer Networks in Unsupervised Feature Learning", AISTATS 2011.

Checked by: tests/stages/ingest/known/test_stl10.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from reprise.config.errors import ImageRefused
from reprise.config.facts import Fact
from reprise.config.params import StrictModel, meaning
from reprise.storage.listing import open_regular
from stages.ingest.known.official_files import OfficialFile, class_names, extent_of, locate, unreadable, whole_file
from stages.ingest.source import Candidate, Encoded, Extent, Refused, Source

_ADDRESS = "https://cs.stanford.edu/~acoates/stl10/ (stl10_binary.tar.gz)"
_SIDE = 96
_BYTES = 3 * _SIDE * _SIDE  # of one image
_CLASSES, _FOLDS = 10, 10
_OFFICIAL = {"train": 5_000, "test": 8_000, "unlabeled": 100_000}


@dataclass(frozen=True)
class StlImage(Encoded):
    """An image of one of the files of images.

    Attributes:
        path: of the file.
        index: number of the image, from 0.
    """

    path: str
    index: int
    made: ClassVar[bool] = True

    def read(self, limit: int) -> bytes:
        """Return the image as a PNG without compression; the file holds each colour's columns one after the other."""
        import numpy as np

        from reprise.media.image.encode import uncompressed_png

        with open_regular(self.path) as descriptor:
            data = os.pread(descriptor, _BYTES, self.index * _BYTES)
        if len(data) < _BYTES:
            raise ImageRefused("truncated", where=self.path, found=f"{len(data)} bytes", fix="Fetch it again.")
        return uncompressed_png(np.frombuffer(data, np.uint8).reshape(3, _SIDE, _SIDE).transpose(2, 1, 0))


class Stl10(Source):
    """STL-10, official training, test and unlabelled images."""

    class Params(StrictModel):
        """Options of stl10."""

        unlabeled: Annotated[
            bool, meaning("The 100,000 images without a class are part of train; otherwise their file is not needed.")
        ] = True
        fold: Annotated[
            int | None,
            Field(ge=0, le=_FOLDS - 1),
            meaning(
                "Only the training images of this official fold keep their class, the others stay in train without "
                "one; null keeps all."
            ),
        ] = None
        fold_facts: Annotated[
            bool, meaning("Each image of train says by ten flags, `fold_0` to `fold_9`, in which folds it is.")
        ] = False

    title: ClassVar[str] = "STL-10"
    keeps_names: ClassVar[bool] = True
    citation: ClassVar[str] = (
        "A. Coates, H. Lee and A. Y. Ng, An Analysis of Single-Layer Networks in Unsupervised Feature Learning, "
        "AISTATS 2011"
    )
    licence: ClassVar[str] = "none stated by the authors; the images are from ImageNet, for research"
    views: ClassVar[dict[str, Any]] = {
        "crop_scale_min": 0.08,
        "flip": True,
        "jitter": 0.5,
        "grey": 0.2,
        "blur": 0.5,
        "solarize": 0.0,
    }

    def __init__(self, root: Path, options: Any) -> None:
        super().__init__(root, options)
        self._understood: list[str] = []

    def facts(self) -> Sequence[Fact]:
        """Declare the folds, where they are asked for."""
        if not self.options.fold_facts:
            return ()
        return tuple(Fact(f"fold_{i}", "flag", "label", f"Whether fold {i} holds the image.") for i in range(_FOLDS))

    def candidates(self) -> Iterator[Candidate | Refused]:
        """Yield the images of train, test, and those without a class, in the order of the files."""
        files = self._files()
        classes = class_names(files["class_names.txt"], _CLASSES)
        folds = self._folds(files["fold_indices.txt"]) if self._needs_folds() else []
        counts = {}
        for part in ("train", "test"):
            path = files[f"{part}_X.bin"]
            labels, counts[part] = whole_file(files[f"{part}_y.bin"], 1 << 20), _count(path)
            if counts[part] != len(labels):
                raise unreadable(path, f"{counts[part]:,} images, and {len(labels):,} labels in {part}_y.bin")
            if part == "train" and (beyond := max((max(fold) for fold in folds), default=0)) >= len(labels):
                raise unreadable(files["fold_indices.txt"], f"image {beyond} of {len(labels):,}, counted from 0")
            members = [frozenset(fold) for fold in folds] if part == "train" else []
            for i, label in enumerate(labels):
                yield self._image(path, i, part, label, classes, members)
        if self.options.unlabeled:
            path = files["unlabeled_X.bin"]
            counts["unlabeled"] = _count(path)
            for i in range(counts["unlabeled"]):
                yield Candidate(f"unlabeled_X/{i:06d}.png", StlImage(str(path), i), "train")
        self._understood = list(self._said(counts))

    def understood(self) -> list[str]:
        """Say what the files are, which fold counts, and whether they have the official number of images."""
        return self._understood

    def extent(self) -> Extent:
        """Hash the files that the options need."""
        return extent_of(self._files())

    def _needs_folds(self) -> bool:
        return self.options.fold is not None or bool(self.options.fold_facts)

    def _files(self) -> dict[str, Path]:
        names = ["class_names.txt", "train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin"]
        names += ["fold_indices.txt"] if self._needs_folds() else []
        names += ["unlabeled_X.bin"] if self.options.unlabeled else []
        return locate(self.root, [OfficialFile(name, _ADDRESS) for name in names])

    def _image(
        self, path: Path, i: int, part: str, label: int, classes: list[str], folds: list[frozenset[int]]
    ) -> Candidate | Refused:
        name = f"{part}_X/{i:06d}.png"
        if not 1 <= label <= _CLASSES:
            return Refused(name, "unknown_label", f"its label is {label}, and the classes have the numbers 1 to 10")
        held = [i in fold for fold in folds]
        facts = {f"fold_{k}": inside for k, inside in enumerate(held)} if self.options.fold_facts else {}
        kept = part == "test" or self.options.fold is None or held[self.options.fold]
        return Candidate(name, StlImage(str(path), i), part, classes[label - 1] if kept else None, None, facts)

    def _folds(self, path: Path) -> list[list[int]]:
        """Read the numbers of the images of each fold, a fold a line."""
        try:
            folds = [[int(word) for word in line.split()] for line in whole_file(path, 1 << 20).splitlines()]
        except ValueError as error:
            raise unreadable(path, "a word that is no number") from error
        folds = [fold for fold in folds if fold]
        if len(folds) != _FOLDS or min(map(min, folds)) < 0:
            raise unreadable(path, f"{len(folds)} lines with numbers, where there are {_FOLDS} folds; none is negative")
        return folds

    def _said(self, counts: dict[str, int]) -> Iterator[str]:
        yield "Train and test are the official ones; val is taken from train."
        if "unlabeled" in counts:
            yield f"{counts['unlabeled']:,} images without a class are part of train."
        if self.options.fold is not None:
            yield f"Of train, only the images of fold {self.options.fold} have a class."
        for part, count in counts.items():
            if count != _OFFICIAL[part]:
                yield f"{part}_X.bin has {count:,} images; the official one has {_OFFICIAL[part]:,}."


def _count(path: Path) -> int:
    """Return the number of images in a file."""
    size = os.stat(path).st_size
    if size % _BYTES or not size:
        raise unreadable(path, f"{size:,} bytes, which is no whole number of images of {_BYTES:,} bytes")
    return size // _BYTES
