"""Format Markdown tables whose cells show text from outside as plain text: no markup, no HTML, no line breaks."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

from reprise.config.errors import printable

_MARKS = re.compile(r"([\\`*\[\]()!|~$]|(?<!\w)_|_(?!\w)|:(?=//))")  # numbers, signs and snake_case stay readable
_MAX_CELL_LENGTH = 300  # characters


def escape(text: object, limit: int = _MAX_CELL_LENGTH) -> str:
    """Return text from outside as the content of one cell, or of one line, of at most `limit` characters."""
    flat = " ".join(printable(text, limit).split())
    return _MARKS.sub(r"\\\1", html.escape(flat, quote=False))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table with escaped cells."""
    lines = ["| " + " | ".join(map(escape, columns)) + " |", "|" + " --- |" * len(columns)]
    return "\n".join([*lines, *("| " + " | ".join(map(escape, row)) + " |" for row in rows)])
