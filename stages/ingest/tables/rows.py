"""The rows of one file of a table, in batches, whatever its form.

A row that cannot be read is refused by itself. What makes the others doubtful (a quote that is never closed, damage in
a Parquet file, a column that is missing) is an error that names the file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprise.config.errors import SourceError, printable
from reprise.config.texts.suggest import nearest

_SHOWN = 30  # columns in a message


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    Attributes:
        where: the file and the line or row, for messages and names.
        cells: the columns that were asked for.
    """

    where: str
    cells: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be read: where it is, a code of docs/reference/data-rules.md, and the reason as a sentence."""

    where: str
    reason: str
    detail: str


class TablePart(ABC):
    """One file of a table.

    Args:
        path: of the file.
        shown: its name in messages and names.
    """

    def __init__(self, path: Path, shown: str) -> None:
        self.path, self.shown = path, shown

    @abstractmethod
    def columns(self) -> list[str]:
        """Return the names of all columns, in their order.

        Raises:
            SourceError: the file cannot be read.
        """

    @abstractmethod
    def read(self, columns: Sequence[str]) -> Iterator[Row | BadRow]:
        """Yield the rows in their order; `columns` are names of `columns`, or end in fields of a column's structs.

        Raises:
            SourceError: the file is damaged.
        """

    def may_name_files(self, column: str) -> bool:
        """Tell whether cells of a column may be paths; where they cannot, nobody has to read them to find files."""
        return True

    def rows(self, columns: Sequence[str]) -> Iterator[Row | BadRow]:
        """Yield the rows, after a look at whether the columns are there.

        Args:
            columns: those that are read; `objects.boxes` is the field `boxes` of the column `objects`.

        Raises:
            SourceError: a column is missing or there are two of its name, or the file is damaged.
        """
        there = self.columns()
        counts = Counter(there)
        for column in columns:
            own = top(column, there)
            if own is None or counts[own] > 1:
                problem = "has two columns" if own is not None else "has no column"
                raise SourceError(
                    f"the table {problem} '{printable(column, 80)}'",
                    where=self.path,
                    found=f"columns {columns_shown(there)}" if there else "no columns",
                    fix=f"Name one of its columns in source.options.{nearest(column, there)}"
                    if own is None
                    else "Rename one of the two in the file.",
                )
        return self.read(columns)


def top(column: str, there: Sequence[str]) -> str | None:
    """Return the column of the table that a name means: itself, or the struct before its first dot; None if neither."""
    if column in there:
        return column
    head = column.partition(".")[0]
    return head if head in there else None


def columns_shown(names: Sequence[str]) -> str:
    """List names of columns, bounded."""
    shown = ", ".join(printable(name, 60) for name in names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else shown


def damaged(path: Path, found: object, fix: str) -> SourceError:
    """Make the error of a file that cannot be read as a table."""
    return SourceError("the table cannot be read", where=path, found=printable(str(found), 300), fix=fix)
