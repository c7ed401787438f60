"""Text in CSV files that a spreadsheet may open: a name such as `=1+1` stays a name and is not computed.

A spreadsheet takes a cell for a formula if it begins with one of `= + - @` (or their full-width forms), a tab or a
carriage return, and quotes around a cell do not change that. File, folder and class names come from outside, so one of
them could run a command on the machine of whoever opens the table. `safe` puts an apostrophe before such a text;
numbers, also negative ones, stay as they are. A text that begins with apostrophes and such a character gets one more,
so that `plain` gives back exactly what was written.
"""

from __future__ import annotations

import re

_FORMULA = re.compile(r"'*[=+\-@\t\r\uff1d\uff0b\uff0d\uff20]")
_ESCAPED = re.compile(r"''*[=+\-@\t\r\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def safe(cell: object) -> object:
    """Return a cell as it may stand in a table; only texts that a spreadsheet would compute are changed."""
    if isinstance(cell, str) and _FORMULA.match(cell) and not _NUMBER.fullmatch(cell):
        return f"'{cell}"
    return cell


def plain(cell: str) -> str:
    """Return the text that `safe` was given."""
    return cell[1:] if _ESCAPED.match(cell) else cell
