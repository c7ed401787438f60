"""Tables of Markdown whose cells show what came from outside as text: no markup, no HTML, no line break."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

from reprise.config.errors import printable

_MARKS = re.compile(r"([\\`*\[\]()!|~$]|(?<!\w)_|_(?!\w)|:(?=//))")  # figures, signs and snake_case stay readable
_LONGEST_CELL = 300  # characters


def escaped(text: object) -> str:
    """Text from outside as one cell."""
    flat = " ".join(printable(text, _LONGEST_CELL).split())
    return _MARKS.sub(r"\\\1", html.escape(flat, quote=False))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table with escaped cells."""
    lines = ["| " + " | ".join(map(escaped, columns)) + " |", "|" + " --- |" * len(columns)]
    return "\n".join([*lines, *("| " + " | ".join(map(escaped, row)) + " |" for row in rows)])
