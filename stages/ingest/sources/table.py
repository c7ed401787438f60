"""table: images that a table names or holds: CSV, TSV or Parquet, one file or a folder of parts.

A row is an image. A column holds its path (below the table's folder, unless `base` names another) or its bytes; other
columns, if the options name them, its class, several labels, group, split, captions and other facts. What a row says is
held to its declaration; a row that breaks a rule is refused by itself (docs/reference/data-rules.md).

Source: no publication; the images and the table are the user's own.

Checked by: tests/stages/ingest/sources/test_table.py; tests/stages/ingest/tables/test_cells.py.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

from reprise.config.errors import SourceError, printable
from reprise.config.facts import Fact
from reprise.config.params import meaning
from reprise.storage.listing import digest_entries
from reprise.storage.walk import Entry
from stages.ingest.names.layout import split_said
from stages.ingest.source import VIEWS_OF_PHOTOGRAPHS, Candidate, Extent, Refused, Source
from stages.ingest.tables.cells import BadCell
from stages.ingest.tables.images import Part, TableImages
from stages.ingest.tables.options import BaseFolder, Column, ColumnOptions, Delimiter, places_of
from stages.ingest.tables.parts import parts_of
from stages.ingest.tables.places import Places
from stages.ingest.tables.rows import Row, TablePart
from stages.ingest.tables.statement import picture


class Table(Source):
    """Images that a table names or holds."""

    class Params(ColumnOptions):
        """Options of the table."""

        image: Annotated[
            Column,
            meaning("This column holds the path of the image, or its bytes (Parquet), alone or with the path."),
        ] = "image"
        base: BaseFolder = None
        delimiter: Delimiter = None

    reads: ClassVar[str] = "a table (.csv, .tsv, .parquet) or a folder of its parts"
    title: ClassVar[str] = "Images of a table"
    citation: ClassVar[str] = ""
    licence: ClassVar[str] = "as the owner of the images says"
    views: ClassVar[dict[str, Any]] = VIEWS_OF_PHOTOGRAPHS

    def __init__(self, root: Path | str, options: Any) -> None:
        super().__init__(root, options)
        self._images: TableImages | None = None
        self._splits_said: list[str] = []

    def facts(self) -> Sequence[Fact]:
        """Declare the facts that the options name."""
        return self.options.declared()

    def candidates(self) -> Iterator[Candidate | Refused]:
        """Yield every row: images in the table and refused rows first, then images in files, each in their order.

        Raises:
            SourceError: the table cannot be read, a column is missing, or its splits are not known.
        """
        parts = self._with_splits(self._parts())
        self._images = TableImages(parts, self.options, self.options.image, self._places())
        yield from self._images

    def extent(self) -> Extent:
        """Hash the table, and the contents of all files that it names; unchanged files are not read again.

        Raises:
            SourceError: the table cannot be read.
        """
        return Extent(*digest_entries(self.root, self.files()))

    def files(self) -> list[Entry]:
        """List the files of the table, and the files that it names, each once."""
        places, listed = self._places(), dict[bytes, Entry]()
        columns = list(dict.fromkeys((self.options.image, *places_of(self.options.facts))))
        for table in self._parts():
            name = os.fsencode(table.shown)
            listed[name] = Entry(name, os.path.realpath(os.fsencode(table.path)))
            named = [column for column in columns if table.may_name_files(column)]
            for row in table.rows(named) if named else ():
                for written in _paths(row, named) if isinstance(row, Row) else ():
                    path, entry = places.find(written)
                    key = b"named/" + path.encode("utf-8", "surrogateescape")
                    listed[key] = Entry(key, entry.path, entry.reason)
        return list(listed.values())

    def remedies(self) -> dict[str, str]:
        """Say where paths begin."""
        base = self.options.base
        begin = f"at source.options.base ({printable(base, 200)})" if base else "at the table's folder"
        return {"missing_file": f"Paths of the table begin {begin}: name another folder with source.options.base."}

    def understood(self) -> list[str]:
        """Say what the columns mean, and which are not used."""
        return [*self._splits_said, *(self._images.understood() if self._images else [])]

    def _with_splits(self, tables: list[TablePart]) -> list[Part]:
        """Take the split of each part from its name (`train.csv`, `test.csv`), if the names say splits.

        Raises:
            SourceError: some names say one, and others do not.
        """
        self._splits_said = []
        if self.options.split is not None or not self.root.is_dir():
            return [Part(table) for table in tables]
        parts = [Part(table, split_said(table.shown)) for table in tables]
        without = [part.table.shown for part in parts if part.split is None]
        if without and len(without) < len(parts):
            raise SourceError(
                "some parts of the table have the name of a split, and others do not",
                where=self.root,
                found=f"{len(without):,} of {len(parts):,} have none, for instance {printable(without[0], 200)}",
                fix="Rename them, set source.root to the file that you mean, or name a column with "
                "source.options.split.",
            )
        splits = Counter(part.split for part in parts if part.split is not None)
        if splits:
            listed = ", ".join(f"{count:,} {split}" for split, count in sorted(splits.items()))
            self._splits_said = [f"Names of parts of the table say the split: {listed}."]
        return parts

    def _parts(self) -> list[TablePart]:
        return parts_of(self.root, self.options.delimiter)

    def _places(self) -> Places:
        base = self.options.base
        if base is not None:
            return Places(Path(base), self.options.link_roots)
        return Places(self.root if self.root.is_dir() else self.root.parent, self.options.link_roots)


def _paths(row: Row, columns: Sequence[str]) -> Iterator[str]:
    for column in columns:
        try:
            written = picture(row.cells[column])
        except BadCell:
            continue
        if isinstance(written, str):
            yield written
