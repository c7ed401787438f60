"""From the rows of a table to candidates.

An image that lies in a file may have several rows: rows that differ only in their captions say more of one image, rows
that say the same are copies, and rows that contradict each other are all refused, since none of them can be trusted.
Images whose bytes stand in the table are yielded as they are read, so that they are never in memory together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from reprise.config.errors import SourceError, printable
from reprise.media.text.rules import MOST_CAPTIONS
from stages.ingest.names.layout import UNLABELLED
from stages.ingest.source import Candidate, Once, Refused
from stages.ingest.tables.cells import BadCell
from stages.ingest.tables.options import ColumnOptions
from stages.ingest.tables.places import Places
from stages.ingest.tables.rows import BadRow, Row, TablePart, columns_shown, top
from stages.ingest.tables.statement import Reader, RefusedRow, Statement, picture

_SHOWN = 8  # values in a message


class Part(NamedTuple):
    """A file of a table, and the split of its rows; None where it has none of its own."""

    table: TablePart
    split: str | None = None


@dataclass(slots=True)
class _Named:
    """An image that rows name by its path.

    Attributes:
        path: to read.
        said: by the first row; captions are those of all rows.
        rows: where they are.
        contradicted: whether they contradict each other.
    """

    path: str
    said: Statement
    rows: list[str] = field(default_factory=list)
    contradicted: bool = False


class TableImages:
    """The images of a table.

    Args:
        parts: the files, in their order.
        options: which column says what.
        image: column with the path or the bytes of the image.
        places: where files may lie.
        names: of classes, for columns that hold their numbers.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        options: ColumnOptions,
        image: str,
        places: Places,
        names: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._parts, self._options, self._image, self._places = parts, options, image, places
        self._reader = Reader(options, places, names or {})
        self._by_place: dict[bytes, _Named] = {}
        self._rows = self._captioned = 0

    def __iter__(self) -> Iterator[Candidate | Refused]:
        """Yield images whose bytes stand in the table, and refused rows, as they come; then images in files.

        Raises:
            SourceError: a file cannot be read as a table, a column is missing, or splits are not known.
        """
        columns = list(dict.fromkeys((self._image, *(column for column, _ in self._options.used()))))
        for table, split in self._parts:
            for row in table.rows(columns):
                self._rows += 1
                if isinstance(row, BadRow):
                    yield Refused(row.where, row.reason, row.detail)
                elif (item := self._read(row, split)) is not None:
                    yield item
        self._refuse_unknown_splits()
        for named in self._by_place.values():
            yield from self._settled(named)
        self._by_place.clear()

    def _read(self, row: Row, split: str | None) -> Candidate | Refused | None:
        """Read a row; None where the image lies in a file, which is kept until all rows are read."""
        try:
            reference = picture(row.cells[self._image])
            if reference is None:
                return Refused(row.where, "empty_cell", f"column '{printable(self._image, 80)}' names no image")
            said = self._reader.statement(row)
            if split is not None and self._options.split is None:
                said = replace(said, split="train", label=None) if split == UNLABELLED else replace(said, split=split)
            if isinstance(reference, bytes):
                return _candidate(_named(row, self._image), Once(reference), said)
            return self._keep(row, reference, said)
        except BadCell as bad:
            return Refused(row.where, "bad_value", f"column '{printable(self._image, 80)}': {bad}")
        except RefusedRow as refusal:
            return Refused(row.where, refusal.reason, refusal.detail)

    def _keep(self, row: Row, written: str, said: Statement) -> Refused | None:
        """Keep an image that lies in a file, or what a further row says of it."""
        path, entry = self._places.find(written)
        if entry.reason is not None:
            return Refused(row.where, entry.reason, f"{printable(path, 300)}: {entry.detail}")
        named = self._by_place.get(entry.path)
        if named is None:
            self._by_place[entry.path] = _Named(path, said, [row.where])
            return None
        if replace(named.said, captions={}) != replace(said, captions={}):
            named.contradicted = True
        elif all(set(texts) <= set(named.said.captions.get(fact, ())) for fact, texts in said.captions.items()):
            detail = f"it says the same of {printable(path, 200)} as {named.rows[0]}"
            return Refused(row.where, "duplicate_row", detail)
        else:
            named.said = replace(named.said, captions=_together(named.said.captions, said.captions))
        named.rows.append(row.where)
        return None

    def _settled(self, named: _Named) -> Iterator[Candidate | Refused]:
        if named.contradicted:
            detail = f"rows contradict each other about {printable(named.path, 200)}: {', '.join(named.rows[:_SHOWN])}"
            yield from (Refused(row, "rows_disagree", f"{detail}. Keep the right one") for row in named.rows)
            return
        most = max(map(len, named.said.captions.values()), default=0)
        if most > MOST_CAPTIONS:
            yield Refused(named.path, "bad_value", f"an image has at most {MOST_CAPTIONS} captions; found {most}")
            return
        self._captioned += len(named.rows) > 1
        yield _candidate(named.path, named.path, named.said)

    def _refuse_unknown_splits(self) -> None:
        unknown = self._reader.unknown_splits
        if unknown:
            shown = [f"'{printable(name, 40)}' ({count:,} rows)" for name, count in sorted(unknown.items())[:_SHOWN]]
            first = printable(min(unknown), 40)
            raise SourceError(
                f"the column '{printable(self._options.split, 80)}' has values that are no known splits",
                where=self._parts[0].table.path,
                found=", ".join(shown) + (f" and {len(unknown) - _SHOWN:,} more" if len(unknown) > _SHOWN else ""),
                fix=f"Say in source.options.split_names what each of them is, for instance {{{first}: val}} (train, "
                "val, test or unlabelled).",
            )

    def understood(self) -> list[str]:
        """Say what the columns mean, which are not used, and what was made of several rows of one image."""
        columns = self._parts[0].table.columns()
        roles: dict[str, list[str]] = {self._image: ["the image"]}
        for column, role in self._options.used():
            roles.setdefault(column, []).append(role)
        used = {top(column, columns) for column in roles}
        said = [
            f"The table has {self._rows:,} rows. Its columns: "
            + ", ".join(f"{printable(column, 60)} is {' and '.join(what)}" for column, what in roles.items())
            + "."
        ]
        if unused := [column for column in columns if column not in used]:
            said.append(f"Columns that are not used: {columns_shown(unused)}.")
        if self._captioned:
            said.append(f"{self._captioned:,} images have several rows with other captions, which belong together.")
        for column, count in sorted(self._reader.not_a_number.items()):
            said.append(f"{count:,} cells of the column {printable(column, 60)} hold NaN, and count as unknown.")
        return said


def _candidate(name: str, reference: Any, said: Statement) -> Candidate:
    facts = {**said.facts, **said.captions}
    return Candidate(name, reference, said.split, said.label, said.group, facts, meant=True)


def _named(row: Row, column: str) -> str:
    """Name an image whose bytes stand in the table: by its row, and by its file's name if the table has that."""
    value = row.cells[column]
    path = value.get("path") if isinstance(value, dict) else None
    return f"{row.where} ({path.rpartition('/')[2]})" if isinstance(path, str) and path else row.where


def _together(
    first: Mapping[str, tuple[str, ...]], second: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    """Join captions in their order, each once."""
    names = dict.fromkeys((*first, *second))
    return {name: tuple(dict.fromkeys((*first.get(name, ()), *second.get(name, ())))) for name in names}
