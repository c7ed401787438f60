"""Print lines and tables for people, and one JSON document for programs.

For people: aligned on a terminal, tab-separated elsewhere, safe for any terminal. For programs (`--json`): stdout holds
one document and nothing else, whatever the processes that the command starts have to say; all of that goes to stderr.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from datetime import date
from enum import Enum
from pathlib import PurePath
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table

from reprise.config.errors import RepriseError, printable

_reserved: list[TextIO] = []  # where the document goes, while stdout is kept for it
_answered: list[bool] = []
_LONGEST_TEXT = 8000  # characters of a part of an error


def say(line: str, stream: TextIO | None = None) -> None:
    """Print one line without control characters, to stdout by default."""
    print(printable(line), file=stream or sys.stdout, flush=True)


def say_aside(line: str) -> None:
    """Print one line to stderr, because stdout is reserved for the result."""
    say(line, sys.stderr)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table with a header."""
    if not sys.stdout.isatty():
        for row in [columns, *rows]:
            print("\t".join(map(printable, row)))
        return
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(cell.replace("[", r"\[") for cell in map(printable, row)))
    Console().print(table)


@contextmanager
def stdout_for_the_answer() -> Iterator[None]:
    """Keep stdout for `answer` inside the `with` block, and send all else to stderr, also of child processes."""
    before = sys.stdout
    try:
        before.flush()
        copy = os.dup(before.fileno())
    except (OSError, ValueError, AttributeError):  # no file, as in a test; or closed by whoever started the command
        copy = None
    if copy is None:
        sys.stdout = sys.stderr
        _reserved.append(before)
    else:
        os.dup2(2, before.fileno())
        _reserved.append(os.fdopen(copy, "w", encoding="utf-8"))
    try:
        yield
    finally:
        stream = _reserved.pop()
        _answered.clear()
        sys.stdout = before
        if copy is not None:
            before.flush()
            stream.flush()
            os.dup2(copy, before.fileno())
            stream.close()


def answer(document: Any) -> None:
    """Print a result as one JSON document (`to_json`)."""
    _answered.append(True)
    print(to_json(document), file=_reserved[-1] if _reserved else sys.stdout, flush=True)


def awaits_answer() -> bool:
    """Whether a program waits for a document that has not been printed."""
    return bool(_reserved) and not _answered


def answer_error(error: RepriseError, code: int, hide: Callable[[str], str]) -> None:
    """Print an error as one JSON document, if a program waits for one.

    Args:
        error: what is told.
        code: the exit status.
        hide: hides secrets in a text.
    """
    if awaits_answer():
        parts = {"what": error.what, "where": error.where, "found": error.found.strip("\n"), "fix": error.fix}
        shown = {name: hide(text)[:_LONGEST_TEXT] for name, text in parts.items()}
        answer({"error": {**shown, "exit_code": int(code)}})


def to_json(document: Any) -> str:
    """Write a document as strict JSON in ASCII.

    A number that JSON does not know becomes one of the texts "NaN", "Infinity" and "-Infinity". A byte of a file name
    that is no UTF-8 becomes the text `\\udcXX` with its value XX, as `printable` shows it.
    """
    return json.dumps(_plain(document), indent=2, allow_nan=False)


def _plain(value: Any) -> Any:
    """Reduce a value to what JSON knows."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {_plain(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, PurePath):
        return _plain(str(value))
    if isinstance(value, date):
        return value.isoformat()
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    return _plain(str(value))
