"""Print lines and tables for people: aligned on a terminal, tab-separated elsewhere, safe for any terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TextIO

from rich.console import Console
from rich.table import Table

from reprise.config.errors import printable


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
