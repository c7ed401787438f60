"""imagenet: ILSVRC's photographs in their official layout, train/<synset>/ and val, read where they are.

`source.root` is the folder that holds train and val, or the archives ILSVRC2012_img_train.tar and
ILSVRC2012_img_val.tar, which are read in place. A val without folders of synsets needs LOC_val_solution.csv or the
development kit beside it. The official validation set becomes the test split, because
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

from reprise.config.errors import ImageRefused, SourceError, printable
from reprise.config.params import StrictModel, meaning
from reprise.config.texts.text_forms import with_pattern
from reprise.storage.listing import digest_folder
from reprise.storage.walk import LEFT_OUT, Entry, list_entries
from stages.ingest.known import synsets
from stages.ingest.known.class_tars import class_tars, images_in, refusal
from stages.ingest.known.official_files import extent_of
from stages.ingest.source import VIEWS_OF_PHOTOGRAPHS, Candidate, Encoded, Extent, LeftOut, Part, Refused, Source

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
    keeps_names: ClassVar[bool] = True
    citation: ClassVar[str] = (
        "O. Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, International Journal of Computer "
        "Vision 115(3), 2015"
    )
    licence: ClassVar[str] = "ImageNet's terms of access: non-commercial research and education"
    views: ClassVar[dict[str, Any]] = VIEWS_OF_PHOTOGRAPHS

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
        self._available()  # nothing else matters where train is missing
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
        read = (self._table(), *self._truth_files(), *(self._tar(part) for part in ("train", "val")))
        tables = {path.name: path for path in read if path is not None}
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

    def _tar(self, part: str) -> Path | None:
        """Return the official archive of a part; None where its folder is there, or nothing."""
        path = self.root / f"ILSVRC2012_img_{part}.tar"
        return path if self._folder(part) is None and path.is_file() else None

    def _available(self) -> list[str]:
        """Return the synsets of train, sorted.

        Raises:
            SourceError: there is no train.
        """
        folder, tar = self._folder("train"), self._tar("train")
        if folder is not None:
            return _synset_folders(folder)
        if tar is not None:
            return list(class_tars(tar)[0])
        raise SourceError(
            "the root of the source is the folder that holds train and val",
            where=self.root,
            found="neither a folder train nor ILSVRC2012_img_train.tar",
            fix=f"Fetch the images from {_ADDRESS}.",
        )

    def _taken(self) -> list[str]:
        """Return the synsets that are taken, sorted."""
        there = self._available()
        if not there:
            raise SourceError(
                "train has a folder, or a tar, for each synset, such as n01440764",
                where=self._folder("train") or self._tar("train"),
                found="none",
                fix="Unpack each archive of a class into the folder of its synset, or leave the whole archive packed.",
            )
        if missing := sorted(set(self.options.classes) - set(there)):
            more = f" and {len(missing) - 5:,} more" if len(missing) > 5 else ""
            raise SourceError(
                "a class of source.options.classes is not in train",
                where=self._folder("train") or self._tar("train"),
                found=f"no {', '.join(missing[:5])}{more}",
                fix="Correct the list, or unpack the archives of these synsets.",
            )
        return sorted(set(self.options.classes)) or there

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
        folder, tar, taken = self._folder("train"), self._tar("train"), self._taken()
        if folder is not None:
            yield from self._strangers(folder)
            for synset in taken:
                yield from self._of_class(folder / synset, "train", self._label(synset, names))
        elif tar is not None:
            places, refused = class_tars(tar)
            yield from refused
            for synset in taken:
                yield from self._of_class_tar(tar, synset, places[synset], self._label(synset, names))

    def _of_class_tar(self, tar: Path, synset: str, place: Part, label: str) -> Iterator[Candidate | Refused | LeftOut]:
        inside = f"{tar}/{synset}.tar"
        try:
            for member in images_in(tar, place):
                name = f"{inside}/{member.name}"
                if member.reason or member.reference is None:
                    yield refusal(name, member)
                else:
                    yield Candidate(name, member.reference, "train", label)
        except ImageRefused as error:
            yield Refused(inside, error.what, f"{error.found}. {error.fix}")

    def _strangers(self, folder: Path) -> Iterator[Refused | LeftOut]:
        """Yield what lies beside the folders of the synsets; a folder counts as one entry."""
        for name in sorted(os.listdir(os.fsencode(folder))):
            text = name.decode("utf-8", "backslashreplace")
            if text.startswith("."):
                yield LeftOut(str(folder / text), "hidden", "its name begins with a dot")
            elif not synsets.SYNSET.fullmatch(text):
                detail = "it lies in no folder of a synset, such as n01440764"
                yield Refused(str(folder / text), "outside_classes", detail)
            elif not os.path.isdir(folder / text):
                detail = "it is called as a synset, and is no folder, or a link to none"
                yield Refused(str(folder / text), "outside_classes", detail)

    def _of_class(self, folder: Path, split: str, label: str) -> Iterator[Candidate | Refused | LeftOut]:
        for entry in list_entries(folder):
            path = str(folder / entry.text)
            yield _defect(path, entry) or Candidate(path, path, split, label)

    def _val(self, names: dict[str, str] | None) -> Iterator[Candidate | Refused | LeftOut]:
        folder, tar, taken = self._folder("val"), self._tar("val"), set(self._taken())
        if folder is not None and _has_synsets(folder):
            there = set(_synset_folders(folder))
            taken = there & set(self.options.classes) if self.options.classes else there
            yield from self._strangers(folder)
            for synset in sorted(taken):
                yield from self._of_class(folder / synset, self.options.validation, self._label(synset, names))
        elif folder is not None or tar is not None:
            truth = self._truth(folder or tar)
            for name, path, entry in self._flat_val(folder, tar):
                known = truth(name)
                if not isinstance(entry, str | Encoded):
                    yield entry
                elif known is None:
                    yield Refused(path, "unknown_label", "no table has a row for this validation image")
                elif known not in taken:
                    self._others += 1
                else:
                    yield Candidate(path, entry, self.options.validation, self._label(known, names))

    def _flat_val(
        self, folder: Path | None, tar: Path | None
    ) -> Iterator[tuple[str, str, str | Encoded | Refused | LeftOut]]:
        """Yield own name, full name, and reference of each validation image, or why it is not taken."""
        if folder is not None:
            for file in list_entries(folder):
                path = str(folder / file.text)
                yield file.text, path, _defect(path, file) or path
        elif tar is not None:
            for member in images_in(tar):
                path = f"{tar}/{member.name}"
                usable = member.reference is not None and not member.reason
                yield member.name, path, member.reference if usable and member.reference else refusal(path, member)

    def _truth_files(self) -> list[Path]:
        """Return the tables that say what the images of a flat val are; none where val has folders or is missing."""
        folder = self._folder("val")
        if (folder is None and self._tar("val") is None) or (folder is not None and _has_synsets(folder)):
            return []
        if (solution := synsets.first_of(self.root, synsets.SOLUTION)) is not None:
            return [solution]
        truth, meta = synsets.first_of(self.root, synsets.TRUTH), synsets.first_of(self.root, synsets.META)
        return [truth, meta] if truth is not None and meta is not None else []

    def _truth(self, where: Path | None) -> synsets.Truth:
        tables = self._truth_files()
        if not tables:
            raise SourceError(
                "val has no folders of synsets, and no table says what its images are",
                where=where,
                found="neither LOC_val_solution.csv, nor the development kit with meta.mat and its ground truth",
                fix=f"Put ILSVRC2012_devkit_t12 or LOC_val_solution.csv into {self.root}; they are at {_ADDRESS}.",
            )
        if len(tables) == 1:
            return synsets.solution_truth(tables[0])
        return synsets.numbered_truth(tables[0], synsets.meta_of(tables[1]))

    def _read_folders(self) -> Iterator[tuple[str, Path]]:
        """Yield the folders that are read: whole parts, or those of the classes that are taken."""
        taken = self._taken() if self.options.classes else []
        for part in ("train", "val"):
            folder = self._folder(part)
            if folder is None:
                continue
            if not taken or not _has_synsets(folder):
                yield part, folder
            else:
                yield from ((f"{part}/{s}", folder / s) for s in taken if os.path.isdir(folder / s))

    def _said(self, counts: dict[str, int]) -> Iterator[str]:
        train = self._folder("train") or self._tar("train")
        yield f"Train is {printable(str(train), 200)}, with the classes that its folders or tars are called after."
        if self._folder("val") is None and self._tar("val") is None:
            yield "There is no official validation set, so test and val are taken from train."
        else:
            split, other = ("test", "val") if self.options.validation == "test" else ("val", "test")
            yield (
                f"The official validation set ({counts['val']:,} images) is the split {split}, and {other} is taken "
                "from train."
            )
        if (table := self._table()) is not None:
            yield f"Classes are called as {table.name} says."
        if self.options.classes:
            there = len(self._available())
            yield f"{len(set(self.options.classes)):,} of {there:,} classes are taken (source.options.classes)."
        if self._others:
            yield f"{self._others:,} validation images are of classes that are not taken."


def _synset_folders(folder: Path) -> list[str]:
    """Return the folders of synsets, sorted."""
    return sorted(
        name for name in os.listdir(folder) if synsets.SYNSET.fullmatch(name) and os.path.isdir(folder / name)
    )


def _has_synsets(folder: Path) -> bool:
    return bool(_synset_folders(folder))


def _defect(path: str, entry: Entry) -> Refused | LeftOut | None:
    if entry.reason is not None:
        return (LeftOut if entry.reason in LEFT_OUT else Refused)(path, entry.reason, entry.detail)
    if "/" in entry.text:
        return Refused(path, "outside_classes", "it lies deeper than the official layout has images")
    return None
