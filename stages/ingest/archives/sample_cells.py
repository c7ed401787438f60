"""The members of a sample as columns, so that they are read by the rules for the cells of tables.

Every extension is a column. A member whose extension ends in `json` holds fields, each a column `json.field`; others
are texts. The extensions by which webdataset means whole numbers are read as such.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reprise.config.errors import ImageRefused
from stages.ingest.source import Encoded, EncodedFact
from stages.ingest.tables.rows import Row
from stages.ingest.tables.statement import Mask, Reader, RefusedRow

_JSON = ("json", "jsn")
_INTEGERS = ("cls", "cls2", "class", "count", "index", "inx", "id")  # as in the package's autodecode.py
_LONGEST = 16 << 20  # bytes of a member that is read as text
_LARGEST_MASK = 1 << 28  # bytes
_WHOLE = re.compile(r"[+-]?\d{1,18}")


def member_of(column: str, extensions: Iterable[str]) -> str | None:
    """Return the extension that holds a column: the column itself, or that of the JSON in which it is a field."""
    found = set(extensions)
    if column in found:
        return column
    parts = column.split(".")
    ends = range(len(parts) - 1, 0, -1)
    names = (".".join(parts[:end]) for end in ends)
    return next((name for name in names if name in found and name.rpartition(".")[2] in _JSON), None)


class SampleCells(Mapping[str, Any]):
    """The columns of one sample; what a sample does not have is unknown, and so is a field that its JSON lacks.

    Args:
        members: extension -> what reads the member.
        masks: columns that stay what reads them.
        filled: called with each column in which something stands.
    """

    def __init__(
        self, members: Mapping[str, Encoded], masks: Sequence[str], filled: Callable[[str], None] = lambda _: None
    ) -> None:
        self._members, self._masks, self._filled = members, masks, filled
        self._json: dict[str, Any] = {}

    def __getitem__(self, column: str) -> Any:
        """Read a column.

        Raises:
            RefusedRow: the member is no UTF-8, no JSON, or too long.
        """
        extension = member_of(column, self._members)
        if extension is None:
            return None
        if column in self._masks:
            self._filled(column)
            return self._members[extension]
        value = self._field(extension, column) if extension.rpartition(".")[2] in _JSON else self._text(extension)
        if value is not None and value != "":
            self._filled(column)
        return value

    def __iter__(self) -> Any:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def _field(self, extension: str, column: str) -> Any:
        if extension not in self._json:
            try:
                self._json[extension] = json.loads(self._decoded(extension))
            except (ValueError, RecursionError) as error:
                raise RefusedRow("bad_value", f"its member {extension} is no JSON: {error}") from error
        value = self._json[extension]
        for part in column.removeprefix(extension).split(".")[1:]:
            value = value.get(part) if isinstance(value, dict) else None
        return value

    def _text(self, extension: str) -> Any:
        text = self._decoded(extension)
        last = extension.rpartition(".")[2]
        if last in _INTEGERS and _WHOLE.fullmatch(text.strip()):
            return int(text)
        return text.rstrip("\r\n")

    def _decoded(self, extension: str) -> str:
        try:
            return self._members[extension].read(_LONGEST).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise RefusedRow("not_utf8", f"its member {extension} is not UTF-8") from error
        except ImageRefused as refusal:
            raise RefusedRow(refusal.what, f"its member {extension}: {refusal.found}") from refusal


@dataclass(frozen=True)
class LazyMask(EncodedFact):
    """A mask that is read from its shard when it is written.

    Attributes:
        where: the sample, for messages.
    """

    where: str = ""

    def __call__(self) -> Any:
        """Decode it: (h, w) uint8.

        Raises:
            SourceError: it is no PNG of one channel and 8 bits.
        """
        return Mask(self.where, self.encoded.read(_LARGEST_MASK))()


class SampleReader(Reader):
    """Reads samples by the options of a source, as rows of a table are read."""

    def _mask(self, value: Any, row: Row) -> Any:
        return LazyMask(value, row.where)
