"""webdataset: other people's shards, tars in which members of one name are a sample.

`source.root` is a tar, a folder of tars, a pattern such as `train-{000..012}.tar`, or an address of any of these
(`s3://`, `gs://`, `https://`). Samples are the ones that the webdataset package reads. One member is the picture; every
other extension is a column, and so is every field of a JSON member (`json.caption`), read by the rules for tables.

Source: Aizman, Maltby and Breuel, "High Performance I/O For Large Scale Deep Learning", IEEE Big Data 2019
(arXiv:2001.01858); the package webdataset 1.0.2, tariterators.py.

Checked by: tests/stages/ingest/sources/test_webdataset.py.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from reprise.config.errors import ImageRefused, SourceError, printable
from reprise.config.facts import Fact
from reprise.config.params import meaning
from reprise.config.stores import StoreParams
from reprise.config.texts.suggest import nearest
from reprise.config.texts.text_forms import wrong_value
from reprise.media.image.readers.names import claims_picture
from reprise.media.lookup import IMAGE, modality
from reprise.storage.listing import read_regular
from reprise.storage.walk import Entry
from stages.ingest.archives.open_archive import Archive, open_tar
from stages.ingest.archives.sample_cells import SampleCells, SampleReader, member_of
from stages.ingest.archives.samples import Grouped, Sample, group, with_contents
from stages.ingest.archives.shards import LocalShards, Shard, shards_of
from stages.ingest.names.layout import UNLABELLED, split_said
from stages.ingest.remotes.options import settings_of
from stages.ingest.source import VIEWS_OF_PHOTOGRAPHS, Candidate, Encoded, Extent, LeftOut, Refused, Source
from stages.ingest.tables.options import StatementOptions
from stages.ingest.tables.places import Places
from stages.ingest.tables.rows import Row
from stages.ingest.tables.statement import RefusedRow

_FETCH = "Fetch or write it again; of a damaged shard no sample is used."
Item = Candidate | Refused | LeftOut


@dataclass
class _Opened:
    """A shard with its samples, and the split that its name says."""

    shard: Shard
    archive: Archive
    grouped: Grouped
    split: str | None = None


class Webdataset(Source):
    """Shards in the form of WebDataset."""

    class Params(StoreParams, StatementOptions):
        """Options of the webdataset source. A column is an extension, or a field of a JSON member (`json.age`)."""

        image: Annotated[
            list[Annotated[str, Field(min_length=1, max_length=200)]],
            Field(default_factory=list, max_length=20),
            meaning(
                "The first of these extensions that a sample has is its picture; an empty list takes the only picture "
                "that there is."
            ),
        ]
        classes: Annotated[
            str | None,
            Field(min_length=1, max_length=4096),
            meaning("This text file has the name of a class in each line, and the column `label` its number from 0."),
        ] = None
        shards: Annotated[
            Literal["auto", "none"],
            meaning(
                "The name of each shard, or of a folder above it, says its split by a known word (`train-000.tar`), "
                "unless no name has one (`auto`); or names say nothing (`none`)."
            ),
        ] = "auto"

        @model_validator(mode="after")
        def _classes_of_labels(self) -> Self:
            if self.classes is not None and self.label is None:
                raise wrong_value("`classes` belongs to `label`, which names the column with the numbers")
            return self

    reads: ClassVar[str] = "a shard (.tar), a pattern of shards, or a folder of them"
    title: ClassVar[str] = "Images in shards"
    citation: ClassVar[str] = ""
    licence: ClassVar[str] = "as the owner of the images says"
    reads_root: ClassVar[bool] = False
    keeps_names: ClassVar[bool] = True
    views: ClassVar[dict[str, Any]] = VIEWS_OF_PHOTOGRAPHS

    def __init__(self, root: Path | str, options: Any) -> None:
        super().__init__(root, options)
        self._shards = shards_of(self.address, settings_of(options))
        self._columns = [name for name, _ in options.used()]
        self._understood: list[str] = []
        self._notes: list[str] = []
        self._filled: Counter[str] = Counter()

    def facts(self) -> Sequence[Fact]:
        """Declare the facts that the options name."""
        return self.options.declared()

    def candidates(self) -> Iterator[Item]:
        """Yield the picture of every sample, shard by shard, and what is refused.

        Raises:
            SourceError: a shard is missing, or damaged and the only one; names of shards or columns are not clear.
            MachineError: a store does not answer.
        """
        self._notes, self._filled = [], Counter()
        names = self._class_names()
        opened: list[_Opened] = []
        for item in self._shards.shards():
            if not isinstance(item, Shard):
                yield item
            elif isinstance(found := self._open(item), Refused):
                yield found
            else:
                opened.append(found)
        if not opened:
            found_in = self._notes[0] if self._notes else "no tar"
            raise SourceError("no shard can be read", where=self.address, found=found_in, fix=_FETCH)
        self._name_splits(opened)
        extensions = Counter(e for one in opened for sample in one.grouped.samples for e in sample.members)
        self._check_columns(extensions)
        reader = SampleReader(self.options, Places(Path(), ()), names)
        for one in opened:
            yield from self._items(one, reader)
        self._check_filled(reader)
        self._understood = self._said(opened, extensions)

    def extent(self) -> Extent:
        """Hash the shards: contents of files, which are read only if they changed, or versions of objects."""
        extent = self._shards.extent()
        if self.options.classes is None:
            return extent
        names = "\n".join(self._class_names()[self.options.label])
        digest = hashlib.sha256(f"{extent.digest}\0{names}".encode()).hexdigest()
        return Extent(extent.files, extent.bytes, digest)

    def files(self) -> list[Entry]:
        """List the shards that lie on this machine."""
        return self._shards.files() if isinstance(self._shards, LocalShards) else []

    def understood(self) -> list[str]:
        """Say what the shards hold, which member is the picture, and which are not read."""
        return self._understood

    def notes(self) -> list[str]:
        """Note shards that are damaged or odd."""
        return self._notes

    def _open(self, shard: Shard) -> _Opened | Refused:
        """List the members of a shard and group them."""
        try:
            archive = open_tar(shard.path, shard.stays)
        except (ValueError, ImageRefused) as error:
            found = error.found if isinstance(error, ImageRefused) else str(error)
            self._notes.append(f"{shard.shown} is damaged, and none of its samples is used: {found}.")
            reason = error.what if isinstance(error, ImageRefused) else ""
            return Refused(shard.shown, reason or "damaged_archive", f"{printable(found, 300)}. {_FETCH}")
        self._notes += [f"{shard.shown}: {note}." for note in archive.notes]
        return _Opened(shard, archive, group(archive.members))

    def _name_splits(self, opened: list[_Opened]) -> None:
        """Read the splits from the names of the shards.

        Raises:
            SourceError: some names have one, and others have none.
        """
        if self.options.shards == "none" or self.options.split is not None:
            return
        for one in opened:
            one.split = split_said(one.shard.name)
        without = [one.shard.name for one in opened if one.split is None]
        if without and len(without) < len(opened):
            raise SourceError(
                "some shards have the name of a split, and others do not",
                where=self.address,
                found=f"{len(without):,} of {len(opened):,} have none, for instance {printable(without[0], 200)}",
                fix="Rename them, or set source.options.shards to `none`, so that names of shards mean nothing.",
            )

    def _check_columns(self, extensions: Counter[str]) -> None:
        """Refuse options that name members which no sample has.

        Raises:
            SourceError: it says which extensions there are.
        """
        listed = ", ".join(f"{printable(e, 60)} ({n:,})" for e, n in extensions.most_common(20)) or "none"
        for column in (*self._columns, *self.options.image):
            if member_of(column, extensions) is None or (column in self.options.image and column not in extensions):
                raise SourceError(
                    f"no sample has a member '{column}'",
                    where=self.address,
                    found=f"extensions, with the number of their samples: {listed}",
                    fix=f"Correct source.options in params.yaml.{nearest(column, list(extensions))}",
                )

    def _check_filled(self, reader: SampleReader) -> None:
        """Refuse options that name fields which no sample has, and splits that are none.

        Raises:
            SourceError: naming the first of them.
        """
        empty = next((name for name in self._columns if not self._filled[name]), None)
        if empty is not None:
            raise SourceError(
                f"the column '{empty}' is empty in every sample",
                where=self.address,
                found="no value",
                fix="Correct the name of the field, as in json.caption, or remove the option.",
            )
        if reader.unknown_splits:
            shown = ", ".join(f"{printable(v, 60)} ({n:,})" for v, n in reader.unknown_splits.most_common(8))
            raise SourceError(
                "the column of splits holds values that are no split",
                where=self.address,
                found=shown,
                fix="Say what they are with source.options.split_names, such as {valid_unseen: val}.",
            )

    def _items(self, one: _Opened, reader: SampleReader) -> Iterator[Item]:
        """Yield what is refused in a shard, and then a candidate of each sample."""
        shown = one.shard.shown
        for member in one.grouped.refused:
            yield Refused(f"{shown}/{member.name}", member.reason or "", member.detail)
        whole: list[Sample] = []
        for sample in one.grouped.samples:
            problem = self._problem(sample)
            if problem is None:
                whole.append(sample)
            else:
                yield Refused(f"{shown}/{sample.key}", *problem)
        seen: Counter[str] = Counter()

        def needed(sample: Sample, extension: str) -> bool:
            held = (member_of(column, sample.members) for column in self._columns)
            return extension == self._picture(sample) or extension in held

        try:
            for sample, members in with_contents(one.archive, whole, needed):
                seen[sample.key] += 1
                again = f" ({seen[sample.key]})" if seen[sample.key] > 1 else ""
                yield self._candidate(f"{shown}/{sample.key}{again}", sample, members, one.split, reader)
        except (ValueError, ImageRefused) as error:  # it could be read a moment ago
            found = error.found if isinstance(error, ImageRefused) else error
            raise SourceError("a shard changed", where=shown, found=printable(found, 300), fix="Run again.") from error

    def _problem(self, sample: Sample) -> tuple[str, str] | None:
        """Return why a sample has no picture that is meant: a reason and a sentence."""
        if sample.repeated is not None:
            detail = f"two members have the extension {sample.repeated}, or webdataset keeps it for itself"
            return "repeated_name", detail
        if self._picture(sample) is not None:
            return None
        pictures = [extension for extension in sample.members if self._may_be_picture(extension)]
        listed = ", ".join(sorted(sample.members))
        if self.options.image or not pictures:
            return "no_image", f"none of its members is the picture; it has {listed}"
        return "several_images", f"source.options.image must say which is meant: it has {listed}"

    def _picture(self, sample: Sample) -> str | None:
        """Return the extension of the picture of a sample, or None where there is none, or no single one."""
        if self.options.image:
            return next((extension for extension in self.options.image if extension in sample.members), None)
        pictures = [extension for extension in sample.members if self._may_be_picture(extension)]
        return pictures[0] if len(pictures) == 1 else None

    def _may_be_picture(self, extension: str) -> bool:
        if extension in self._columns:
            return False
        return _is_picture(extension) if self.modality == IMAGE else modality(self.modality).claims(f"x.{extension}")

    def _candidate(
        self, shown: str, sample: Sample, members: dict[str, Encoded], split: str | None, reader: SampleReader
    ) -> Candidate | Refused:
        """Read what a sample says of its picture."""
        extension = self._picture(sample)
        assert extension is not None
        name = f"{shown}.{extension}"
        masks = [fact.column or key for key, fact in self.options.facts.items() if fact.kind == "mask"]
        cells = SampleCells(members, masks, lambda column: self._filled.update((column,)))
        try:
            said = reader.statement(Row(name, cells))
        except RefusedRow as refusal:
            return Refused(name, refusal.reason, refusal.detail)
        own, label = said.split or split, said.label
        if own == UNLABELLED:
            own, label = "train", None
        facts, meant = {**said.facts, **said.captions}, bool(self.options.image)
        return Candidate(name, members[extension], own, label, said.group, facts, meant)

    def _class_names(self) -> dict[str, list[str]]:
        """Read the names of classes: those of the column of labels.

        Raises:
            SourceError: the file cannot be read, is not UTF-8, or holds a name twice.
        """
        path, label = self.options.classes, self.options.label
        if path is None or label is None:
            return {}
        fix = "Correct source.options.classes: a text file in UTF-8 with the name of one class in each line."
        try:
            text = read_regular(path, 1 << 26).decode("utf-8-sig").replace("\r\n", "\n")
            # Not `splitlines`, for which rare characters end a line, too: all later classes would have other names.
            names = [line.strip() for line in text.removesuffix("\n").split("\n")]
        except (ImageRefused, UnicodeDecodeError) as error:
            found = error.found if isinstance(error, ImageRefused) else error
            raise SourceError("the names of classes cannot be read", where=path, found=found, fix=fix) from error
        if not all(names) or len(set(names)) < len(names):
            found = "an empty line" if not all(names) else "a name twice"
            raise SourceError("every line has the name of another class", where=path, found=found, fix=fix)
        return {label: names}

    def _said(self, opened: list[_Opened], extensions: Counter[str]) -> list[str]:
        samples = sum(len(one.grouped.samples) for one in opened)
        said = [f"{len(opened):,} shard{'s' if len(opened) > 1 else ''} with {samples:,} samples."]
        pictures = Counter(e for one in opened for s in one.grouped.samples if (e := self._picture(s)) is not None)
        if pictures:
            said.append(f"The picture is {_counted(pictures)}.")
        for column, role in self.options.used():
            said.append(f"Column {printable(column, 80)} says {role}: {self._filled[column]:,} samples have it.")
        held = {member_of(column, extensions) for column in self._columns}
        unread = Counter({e: n - pictures[e] for e, n in extensions.items() if e not in held and n > pictures[e]})
        if unread:
            said.append(f"Not read: {_counted(unread)}.")
        if any(one.split for one in opened):
            splits = Counter(one.split for one in opened)
            said.append(
                "Names of shards say the split: " + ", ".join(f"{n:,} {s}" for s, n in sorted(splits.items())) + "."
            )
        outside = [name for one in opened for name in one.grouped.outside]
        if outside:
            shown = printable(outside[0], 120)
            said.append(f"{len(outside):,} members belong to no sample, as the package reads them, such as {shown}.")
        return said


def _is_picture(extension: str) -> bool:
    last = extension.rpartition(".")[2]
    return (last.isalpha() and claims_picture(f"x.{last}")) or last in ("jp2", "cr2", "cr3", "j2k")


def _counted(extensions: Counter[str]) -> str:
    parts = [f"{printable(e, 60)} ({n:,})" for e, n in extensions.most_common(10)]
    return ", ".join(parts) + (" and others" if len(extensions) > 10 else "")
