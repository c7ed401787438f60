"""Read YAML from anybody: plain data, in bounded memory and time.

A file of a kilobyte can stand for more data than any machine holds ("billion laughs": a list of nine aliases of a list
of nine aliases ...), for a list that contains itself, or for a number that Python cannot write.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, ScalarEvent

from reprise.config.errors import ParameterError

LARGEST_FILE = 1 << 18  # bytes; forty times our params.yaml, and ten seconds of reading
_MOST_VALUES = 100_000  # with every alias written out
_LONG_TEXT = 100  # characters that count as another value
_MOST_DIGITS = 300  # of a number; Python refuses to write one of more than some thousand


def content_of(path: Path) -> bytes:
    """Return the content of a small file, and never wait for it.

    Raises:
        OSError: it cannot be read.
        ParameterError: it is no regular file, or too large.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ParameterError(
                "the parameters are not a file", where=path, found="a folder, FIFO or device", fix="Put a file there."
            )
        data = file.read(LARGEST_FILE + 1)
    if len(data) > LARGEST_FILE:
        raise ParameterError(
            "the parameter file is too large",
            where=path,
            found=f"more than {LARGEST_FILE} bytes",
            fix=f"Keep it below {LARGEST_FILE >> 10} KiB.",
        )
    return data


def plain_data(data: bytes, path: Path) -> Any:
    """Read one document.

    Args:
        data: the content of a file, at most LARGEST_FILE bytes.
        path: the file, for messages.

    Raises:
        ParameterError: not UTF-8, not YAML, duplicate keys, custom tags, aliases that stand for too much or for
            themselves, numbers of hundreds of digits.
    """
    try:
        text = data.decode("utf-8")
        if "*" in text and "&" in text:  # without an alias, no file stands for more than it holds
            _check_aliases(text)
        value = YAML(typ="safe", pure=True).load(text)
        _check_numbers(value)
    except (YAMLError, ValueError, TypeError, RecursionError) as error:
        mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
        raise ParameterError(
            "the file is not plain YAML",
            where=f"{path}:{mark.line + 1}" if mark else path,
            found=getattr(error, "problem", None) or str(error),
            fix="Correct that line or the one above it: mostly the spaces before one of them are too few or too many. "
            "Tags such as !!python are not allowed.",
        ) from error
    return value


def _check_aliases(text: str) -> None:
    """Count the values of a document with every alias written out, without writing any out."""
    size_of: dict[str, int] = {}  # anchor -> number of values
    open_ones: list[list[Any]] = [[None, 0]]  # anchor and number of values so far, of each list or mapping around
    for event in YAML(typ="safe", pure=True).parse(text):
        size = 0
        if isinstance(event, CollectionStartEvent):
            open_ones.append([event.anchor, 1])
        elif isinstance(event, CollectionEndEvent):
            anchor, size = open_ones.pop()
            size_of[anchor] = size
        elif isinstance(event, ScalarEvent):
            size = size_of[event.anchor] = 1 + len(event.value) // _LONG_TEXT
        elif isinstance(event, AliasEvent):
            if any(event.anchor == anchor for anchor, _ in open_ones[1:]):
                raise ValueError(f"the alias *{event.anchor!s:.50} stands inside of what it stands for")
            size = size_of.get(event.anchor, 1)
        open_ones[-1][1] += size
        if open_ones[-1][1] > _MOST_VALUES:
            raise ValueError(f"its aliases stand for more than {_MOST_VALUES} values")


def _check_numbers(value: Any) -> None:
    level = [value]
    while level:
        inner: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                inner += [*one, *one.values()]
            elif isinstance(one, list):
                inner += one
            elif isinstance(one, int) and abs(one) >= 10**_MOST_DIGITS:
                raise ValueError(f"a number of more than {_MOST_DIGITS} digits")
        level = inner
