"""imagenet: ILSVRC's photographs in their official layout, train/<synset>/ and val, read where they are.

`source.root` is the folder that holds train and val; val is one folder of images with the truth in LOC_val_solution.csv
or in the development kit, or has a folder for each synset. The official validation set becomes the test split, because
the labels of the official test set are not public; it never becomes training. Nothing is downloaded.

Source: Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", IJCV 2015, arXiv:1409.0575.

Checked by: tests/stages/ingest/known/test_imagenet.py.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from reprise.config.errors import SourceError, printable
from reprise.config.params import StrictModel, meaning
from reprise.config.texts.text_forms import with_pattern
from reprise.storage.listing import digest_folder
from reprise.storage.walk import LEFT_OUT, Entry, list_entries
from stages.ingest.known import synsets
from stages.ingest.known.official_files import extent_of
from stages.ingest.source import Candidate, Extent, LeftOut, Refused, Source

_ADDRESS = "https://image-net.org/download-images.php (an account is needed)"
_INSIDE = "ILSVRC/Data/CLS-LOC"  # where Kaggle's archive has train, val and test
_MOST_CLASSES = 30_000  # the whole of ImageNet has 21,841
Synset = Annotated[str, with_pattern(r"n\d{8}", "a synset is the letter n and eight digits, such as n01440764")]


class Imagenet(Source):
    """ImageNet, official training and validation images."""

    class Params(StrictModel):
        """Options of imagenet."""

        labels: Annotated[
            Literal["name", "synset"],
            meaning(
                "A class is called by the first of its words, from LOC_synset_mapping.txt, synset_words.txt or the "
                "development kit's meta.mat, or by its synset (n01440764), as the folders are."
            ),
        ] = "name"
        classes: Annotated[
            list[Synset],
            Field(default_factory=list, max_length=_MOST_CLASSES),
            meaning("Only these synsets are taken; an empty list takes all."),
        ]
        validation: Annotated[
            Literal["test", "val"],
            meaning(
                "The official validation set is this split; the other one is taken from train. It never becomes "
                "training."
            ),
        ] = "test"

    title: ClassVar[str] = "ImageNet (ILSVRC)"
    citation: ClassVar[str] = (
        "O. Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, International Journal of Computer "
        "Vision 115(3), 2015"
    )
    licence: ClassVar[str] = "ImageNet's terms of access: non-commercial research and education"
    views: ClassVar[dict[str, Any]] = {
        "crop_scale_min": 0.08,
        "flip": True,
        "jitter": 1.0,
        "grey": 0.2,
        "blur": 0.5,
        "solarize": 0.0,
    }

    def __init__(self, root: Path, options: Any) -> None:
        super().__init__(root, options)
        self._understood: list[str] = []
        self._others = 0

    def candidates(self) -> Iterator[Candidate | Refused | LeftOut]:
        """Yield train by synset, then the official validation set, each sorted by name.

        Raises:
            SourceError: a folder, or the table that says what val or a class is, is missing or damaged.
        """
        self._others, counts = 0, {"train": 0, "val": 0}
        self._train_folder()  # nothing else matters where it is missing
        names = self._names()
        for part, rows in (("train", self._train(names)), ("val", self._val(names))):
            for row in rows:
                counts[part] += isinstance(row, Candidate)
                yield row
        test = self._folder("test")
        if test is not None:
            yield LeftOut(str(test), "unlabelled_test", "the labels of the official test set are not public")
        self._understood = list(self._said(counts))

    def understood(self) -> list[str]:
        """Say which split the official sets are, where names come from, and what was not taken."""
        return self._understood

    def extent(self) -> Extent:
        """Hash the folders that are read and the tables beside them; unchanged files are not read again."""
        tables = {path.name: path for path in (self._table(), *self._truth_files()) if path is not None}
        total = extent_of(tables) if tables else Extent(0, 0, "")
        files, size, digest = total.files, total.bytes, hashlib.sha256(total.digest.encode())
        for name, folder in self._read_folders():
            part = digest_folder(folder)
            files, size = files + part[0], size + part[1]
            digest.update(f"{name} {part[2]}\n".encode())
        return Extent(files, size, digest.hexdigest())

    def _folder(self, name: str) -> Path | None:
        """Return the folder of a part, in the official layout or Kaggle's, links resolved; None where there is none."""
        for place in (self.root / name, self.root / _INSIDE / name):
            if os.path.isdir(place):
                return Path(os.path.realpath(place))
        return None

    def _train_folder(self) -> Path:
        folder = self._folder("train")
        if folder is None:
            raise SourceError(
                "the root of the source is the folder that holds train and val",
                where=self.root,
                found="no folder train",
                fix=f"Fetch the images from {_ADDRESS} and unpack them, each archive into the folder of its synset.",
            )
        return folder

    def _synsets_of(self, folder: Path) -> list[str]:
        """Return the synsets of a part that are taken, sorted."""
        there = sorted(name for name in os.listdir(folder) if synsets.SYNSET.fullmatch(name))
        if not self.options.classes:
            return there
        if missing := sorted(set(self.options.classes) - set(there)):
            more = f" and {len(missing) - 5:,} more" if len(missing) > 5 else ""
            raise SourceError(
                "a class of source.options.classes has no folder",
                where=folder,
                found=f"no {', '.join(missing[:5])}{more}",
                fix="Correct the list, or unpack the archives of these synsets.",
            )
        return sorted(set(self.options.classes))

    def _table(self) -> Path | None:
        """Return the file that names the classes; None where they are called by their synsets."""
        if self.options.labels == "synset":
            return None
        path = synsets.first_of(self.root, (*synsets.NAMES, *synsets.META))
        if path is None:
            raise SourceError(
                "no file says how the classes are called",
                where=self.root,
                found=f"none of {', '.join((*synsets.NAMES, synsets.META[0]))}",
                fix="Put one of them there (the development kit has meta.mat), or set source.options.labels to synset.",
            )
        return path

    def _names(self) -> dict[str, str] | None:
        table = self._table()
        return None if table is None else synsets.names_of_synsets(table)

    def _label(self, synset: str, names: dict[str, str] | None) -> str:
        if names is None:
            return synset
        if synset not in names:
            raise SourceError(
                "a class has no name",
                where=self._table(),
                found=f"no line for {synset}",
                fix="Complete the file, or set source.options.labels to synset.",
            )
        return names[synset]

    def _train(self, names: dict[str, str] | None) -> Iterator[Candidate | Refused | LeftOut]:
        folder = self._train_folder()
        taken = self._synsets_of(folder)
        yield from self._strangers(folder)
        for synset in taken:
            yield from self._of_class(folder / synset, "train", self._label(synset, names))
        if not taken:
            raise SourceError(
                "train has a folder for each synset, such as n01440764",
                where=folder,
                found="no such folder",
                fix="Unpack each archive of a class into the folder of its synset.",
            )

    def _strangers(self, folder: Path) -> Iterator[Refused | LeftOut]:
        """Yield what lies beside the folders of the synsets; a folder counts as one entry."""
        for name in sorted(os.listdir(os.fsencode(folder))):
            text = name.decode("utf-8", "backslashreplace")
            if text.startswith("."):
                yield LeftOut(str(folder / text), "hidden", "its name begins with a dot")
            elif not synsets.SYNSET.fullmatch(text):
                detail = "it lies in no folder of a synset, such as n01440764"
                yield Refused(str(folder / text), "outside_classes", detail)

    def _of_class(self, folder: Path, split: str, label: str) -> Iterator[Candidate | Refused | LeftOut]:
        for entry in list_entries(folder):
            path = str(folder / entry.text)
            yield _defect(path, entry) or Candidate(path, path, split, label)

    def _val(self, names: dict[str, str] | None) -> Iterator[Candidate | Refused | LeftOut]:
        folder = self._folder("val")
        if folder is None:
            return
        split = self.options.validation
        if _has_synsets(folder):
            taken = set(self.options.classes) or set(os.listdir(folder))
            yield from self._strangers(folder)
            for synset in sorted(name for name in taken if synsets.SYNSET.fullmatch(name)):
                if os.path.isdir(folder / synset):
                    yield from self._of_class(folder / synset, split, self._label(synset, names))
            return
        truth = self._truth(folder)
        taken = set(self.options.classes) or set(self._synsets_of(self._train_folder()))
        for entry in list_entries(folder):
            path = str(folder / entry.text)
            synset = truth(entry.text)
            if (defect := _defect(path, entry)) is not None:
                yield defect
            elif synset is None:
                yield Refused(path, "unknown_label", "no table has a row for this validation image")
            elif synset not in taken:
                self._others += 1
            else:
                yield Candidate(path, path, split, self._label(synset, names))

    def _truth_files(self) -> list[Path]:
        """Return the tables that say what the images of a flat val are; none where val has folders or is missing."""
        folder = self._folder("val")
        if folder is None or _has_synsets(folder):
            return []
        if (solution := synsets.first_of(self.root, synsets.SOLUTION)) is not None:
            return [solution]
        truth, meta = synsets.first_of(self.root, synsets.TRUTH), synsets.first_of(self.root, synsets.META)
        return [truth, meta] if truth is not None and meta is not None else []

    def _truth(self, folder: Path) -> synsets.Truth:
        tables = self._truth_files()
        if not tables:
            raise SourceError(
                "val has no folders of synsets, and no table says what its images are",
                where=folder,
                found="neither LOC_val_solution.csv, nor the development kit with meta.mat and its ground truth",
                fix=f"Put ILSVRC2012_devkit_t12 or LOC_val_solution.csv into {self.root}; they are at {_ADDRESS}.",
            )
        if len(tables) == 1:
            return synsets.solution_truth(tables[0])
        return synsets.numbered_truth(tables[0], synsets.meta_of(tables[1]))

    def _read_folders(self) -> Iterator[tuple[str, Path]]:
        """Yield the folders that are read: whole parts, or those of the classes that are taken."""
        train, val = self._train_folder(), self._folder("val")
        taken = self._synsets_of(train) if self.options.classes else []
        for part, folder in (("train", train), *([("val", val)] if val is not None else [])):
            if not taken or not _has_synsets(folder):
                yield part, folder
            else:
                yield from ((f"{part}/{s}", folder / s) for s in taken if os.path.isdir(folder / s))

    def _said(self, counts: dict[str, int]) -> Iterator[str]:
        yield f"Train is the folder {printable(str(self._train_folder()), 200)}, a class a folder."
        if self._folder("val") is None:
            yield "There is no folder val, so test and val are taken from train."
        else:
            split, other = ("test", "val") if self.options.validation == "test" else ("val", "test")
            yield (
                f"The official validation set ({counts['val']:,} images) is the split {split}, and {other} is taken "
                "from train."
            )
        if (table := self._table()) is not None:
            yield f"Classes are called as {table.name} says."
        if self.options.classes:
            there = sum(synsets.SYNSET.fullmatch(name) is not None for name in os.listdir(self._train_folder()))
            yield f"{len(set(self.options.classes)):,} of {there:,} classes are taken (source.options.classes)."
        if self._others:
            yield f"{self._others:,} validation images are of classes that are not taken."


def _has_synsets(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(synsets.SYNSET.fullmatch(entry.name) and entry.is_dir() for entry in entries)


def _defect(path: str, entry: Entry) -> Refused | LeftOut | None:
    if entry.reason is not None:
        return (LeftOut if entry.reason in LEFT_OUT else Refused)(path, entry.reason, entry.detail)
    if "/" in entry.text:
        return Refused(path, "outside_classes", "it lies deeper than the official layout has images")
    return None
