"""CSV and TSV by one strict dialect: UTF-8 (with or without its mark), a header, quotes doubled inside quotes.

Standard library only: a table of paths is read before every `repro`. Nothing is guessed about types: a cell is the
text that stands there, so `007`, `=1+1` and `NA` stay what they are.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import IO

from reprise.config.errors import ImageRefused
from reprise.storage.listing import open_regular
from stages.ingest.tables.rows import BadRow, Row, TablePart, damaged

_LONGEST_LINE = 16 << 20  # characters
_OTHER_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"\x1f\x8b": "gzip", b"PK": "zip (a spreadsheet)"}
_SAVE = "Save it as comma-separated text in UTF-8."


class TextPart(TablePart):
    """A file of text.

    Args:
        path: of the file.
        shown: its name in messages.
        delimiter: between cells.
    """

    def __init__(self, path: Path, shown: str, delimiter: str) -> None:
        super().__init__(path, shown)
        self._delimiter = delimiter

    def columns(self) -> list[str]:
        """Return the cells of the first line, without spaces around them."""
        return next((names for _, names, _ in self._lines()), [])

    def read(self, columns: Sequence[str]) -> Iterator[Row | BadRow]:
        """Yield the rows; empty lines are none."""
        head: list[str] = []
        places: list[tuple[str, int]] = []
        for number, cells, broken in self._lines():
            if not head:
                head = cells
                places = [(column, head.index(column)) for column in columns]
                continue
            where = f"{self.shown}: line {number}"
            if len(cells) != len(head):
                detail = f"the row has {len(cells)} cells, and the table {len(head)} columns"
                yield BadRow(where, "ragged_row", detail)
            elif broken:
                yield BadRow(where, *broken)
            else:
                yield Row(where, {column: cells[i] for column, i in places})

    def _lines(self) -> Iterator[tuple[int, list[str], tuple[str, str] | None]]:
        """Yield the number of each row's first line, its cells, and why it is refused; the header comes first."""
        try:
            with open_regular(self.path) as descriptor:
                with open(descriptor, "rb", closefd=False) as file:
                    start = file.read(4)
                for mark, what in _OTHER_MARKS.items():
                    if start.startswith(mark):
                        raise damaged(self.path, f"a file in {what}", _SAVE)
                os.lseek(descriptor, 0, os.SEEK_SET)
                with open(
                    descriptor, encoding="utf-8-sig", errors="surrogateescape", newline="", closefd=False
                ) as text:
                    yield from self._parsed(text)
        except ImageRefused as refusal:
            raise damaged(self.path, refusal.found, refusal.fix) from refusal

    def _parsed(self, text: IO[str]) -> Iterator[tuple[int, list[str], tuple[str, str] | None]]:
        reader = csv.reader(self._bounded(text), delimiter=self._delimiter, strict=True)
        line, head = 1, False
        try:
            while (cells := _next_row(reader)) is not None:
                number, line = line, reader.line_num + 1
                if not cells:
                    continue
                if not head:
                    head = True
                    yield number, self._header(cells), None
                else:
                    yield number, cells, _broken(cells)
        except csv.Error as error:
            fix = "Close every quote, double a quote that stands inside quotes, and put quotes around cells that hold "
            fix += "the separator or a line break."
            raise damaged(self.path, f"{error}, in the row that begins at line {line}", fix) from error

    def _bounded(self, text: IO[str]) -> Iterator[str]:
        while line := text.readline(_LONGEST_LINE):
            if len(line) == _LONGEST_LINE:
                raise damaged(self.path, f"a line of more than {_LONGEST_LINE:,} characters", _SAVE)
            yield line

    def _header(self, cells: list[str]) -> list[str]:
        head = [cell.strip() for cell in cells]
        if broken := _broken(head):
            raise damaged(self.path, f"names of columns: {broken[1]}", _SAVE)
        if len(head) == 1 and (other := next((sign for sign in ";\t|," if sign in head[0]), None)):
            fix = f"If {other!r} separates its cells, set source.options.delimiter to that."
            raise damaged(self.path, f"one column, '{head[0]}'", fix)
        return head


def _next_row(reader: Iterator[list[str]]) -> list[str] | None:
    """Return the next row, of which a cell may be as long as a line; None after the last one.

    The limit is one of the whole process, 131,072 characters by default, so it holds for this call alone.
    """
    usual = csv.field_size_limit(_LONGEST_LINE)
    try:
        return next(reader, None)
    finally:
        csv.field_size_limit(usual)


def _broken(cells: Sequence[str]) -> tuple[str, str] | None:
    """Return the reason why the cells of a row are refused, or None."""
    for character in chain.from_iterable(cell for cell in cells if not cell.isascii() or "\0" in cell):
        if character == "\0":
            return "bad_value", "a cell holds the character NUL"
        if "\udc80" <= character <= "\udcff":
            return "not_utf8", "a cell holds bytes that are not UTF-8"
    return None
