"""Replace secrets in text by `***`: those of this machine (`secret_values`), and credentials that show by their form.

A stage may print its environment, and DVC may print a signed URL. Every text that a flow passes to Prefect, every log
that Reprise writes, and every error that a command prints goes through this module.

A secret is hidden wherever it stands, in plain and in the spellings in which logs show text (percent-coded, escaped,
base64). A value that is short, or a word that Reprise's own output uses, is hidden only beside its name: a password
`images` must not blank out a log.
"""

from __future__ import annotations

import base64
import functools
import html
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TextIO
from urllib.parse import quote, quote_plus, unquote

from pipeline.processes.commands import run
from pipeline.processes.markdown import escape
from pipeline.processes.secret_values import find_secrets
from reprise.config.errors import printable
from reprise.config.texts.credentials import HIDDEN, hide_credentials
from reprise.storage.code.places import folder_of

Hide = Callable[[str], str]
MIN_LENGTH = 6
MIN_DIGITS = 8  # losses and counts are printed with six digits
_WORD = re.compile(r"[A-Za-z]+(?:_[A-Za-z]+)*")
_PACKAGES = ("pipeline", "reprise", "stages")
_LONGEST_WORD = 24
_KEPT_LINES = 200
_WORDS_OF_OTHERS = """
    basic beginning cached changeme completed computing created critical custom default digest development disabled
    enabled everything failed fetched finished generating localhost message module modified password preparing private
    production public pushed querying reproduce restored running secret skipping staging started traceback updating
    verified warning
"""  # of DVC and Prefect, which our own sources may lack


def make_redactor(root: Path, environment: Mapping[str, str] | None = None) -> Hide:
    """Return a function that hides the secrets of an environment, of DVC's settings, and of any credential in sight.

    Args:
        root: the project folder.
        environment: environment variables; those of this process by default.
    """
    everywhere: set[str] = set()
    beside: set[str] = set()
    for name, value in find_secrets(root, os.environ if environment is None else environment):
        for line in filter(None, map(str.strip, value.splitlines())):  # a key in PEM format has several lines
            if _is_distinct(line, root):
                everywhere.update(_patterns(line))
            elif name:
                beside.add(rf"({re.escape(name)}[\"']?\s?[=:]\s?[\"']?){re.escape(line)}(?![A-Za-z0-9])")
    plain, named = (
        re.compile("|".join(sorted(each, key=len, reverse=True)) or r"(?!)") for each in (everywhere, beside)
    )

    def hide(text: str) -> str:
        text = plain.sub(HIDDEN, text)
        text = named.sub(lambda match: next(filter(None, match.groups())) + HIDDEN, text)
        return hide_credentials(text)

    return hide


def run_shown(
    command: Sequence[str],
    root: Path,
    *,
    skip: Callable[[str], object] = lambda line: False,
    keep: list[str] | None = None,
) -> int:
    """Run a command that writes to the output of this process, without the secrets in it.

    A stream that is a terminal is left to the command, which shows its progress there.

    Args:
        command: the program and its arguments.
        root: the folder to run in.
        skip: tells for a line whether it is left out.
        keep: gets the last lines that were written elsewhere than to a terminal.

    Returns:
        The exit status.
    """
    if sys.stdout.isatty() and sys.stderr.isatty():
        return run(command, cwd=root)
    hide = make_redactor(root)

    def writer(stream: TextIO) -> Callable[[str], None] | None:
        if stream.isatty():
            return None

        def write(line: str) -> None:
            hidden = hide(line)
            if keep is not None:
                keep.append(hidden)
                del keep[:-_KEPT_LINES]
            if not skip(hidden):
                print(hidden, file=stream, flush=True)

        return write

    if _same_file(sys.stdout, sys.stderr):  # one pipe, so that the lines keep their order
        return run(command, cwd=root, on_line=writer(sys.stdout))
    return run(command, cwd=root, on_each_line=(writer(sys.stdout), writer(sys.stderr)))


def _same_file(one: TextIO, other: TextIO) -> bool:
    try:
        return os.path.samestat(os.fstat(one.fileno()), os.fstat(other.fileno()))
    except (OSError, ValueError):  # a stream that is no file, as in a test
        return False


def _is_distinct(value: str, root: Path) -> bool:
    """Return whether a value may be hidden wherever it stands, without damage to ordinary text."""
    if len(value) < (MIN_DIGITS if value.isdigit() else MIN_LENGTH):
        return False
    return len(value) > _LONGEST_WORD or not _is_ordinary(value.lower(), root)


def _patterns(value: str) -> Iterator[str]:
    """Yield regular expressions for a value in all its spellings."""
    plain = re.escape(value)
    if _WORD.fullmatch(value) or value.isdigit():  # not inside another word or number
        plain = rf"(?:(?<![A-Za-z0-9])|(?<=\\[nrt])){plain}(?![A-Za-z0-9])"
    yield plain
    yield from map(re.escape, _spellings(value) - {value})


def _spellings(value: str) -> set[str]:
    """Return the other forms in which a text may show a value."""
    percent = {quote(value, safe=""), quote(value), quote_plus(value), unquote(value)}
    lower = {re.sub(r"%[0-9A-F]{2}", lambda match: match[0].lower(), text) for text in percent}
    escaped = {
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        repr(value)[1:-1],
        printable(value),
    }
    marked = {html.escape(value), html.escape(value, quote=False), escape(value)}
    coded = {base64.b64encode(value.encode("utf-8", "surrogateescape")).decode("ascii").rstrip("=")}
    return {text for text in percent | lower | escaped | marked | coded if len(text) >= MIN_LENGTH}


def _is_ordinary(value: str, root: Path) -> bool:
    """Return whether a value is one that the output of this program, or the names of the project, use."""
    text = _program_text() + _WORDS_OF_OTHERS
    if _WORD.fullmatch(value):
        for name in ("dvc.yaml", "params.yaml"):
            with suppress(OSError):
                text += (root / name).read_text(encoding="utf-8", errors="replace").lower()
    return value in text and re.search(rf"(?<![a-z0-9]){re.escape(value)}(?![a-z0-9])", text) is not None


@functools.cache
def _program_text() -> str:
    """Return the sources of this program: their messages and docstrings hold the words of its output."""
    files = (path for package in _PACKAGES for path in sorted((folder_of(package) / package).rglob("*.py")))
    return "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in files).lower()
