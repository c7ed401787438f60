"""Targets beside the class label: `targets.csv` in the project's folder, with a row an image and a column a target.

    image,smiling,age
    cats/0017.jpg,1,3.5
    cats/0018.jpg,0,

The first column is `image`, the end of the image's path (as much of it as makes it unique, written as in
image_names.py), or `key`, the manifest's key. Where a file holds several images (`source.pages: all`), its name means
all of them, and `stack.tif (page 3)` one. Rows that name no image are counted and noted in the protocol of each
probe; where no row names one, that is an error. Every further column is a target: numbers, empty where unknown. A
column that holds only 0 and 1 is an attribute (an image may have several of them: multi-label); any other is a
quantity (regression). Columns that facts.columns in params.yaml declares as words or captions hold text. The file
always exists, since the graph depends on it; without rows there are no targets. The stage `facts` alone reads it.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import numpy as np

from reprise.artifacts.labels.image_names import ImageNames
from reprise.config.errors import ImageRefused, ManifestError
from reprise.storage.listing import open_regular

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

TARGETS = Path("targets.csv")
_NAME = re.compile(r"^[a-z][a-z0-9_]{0,47}$")
_PAGE = re.compile(r"(.*\S) ?\(page ([0-9]{1,6})\)")
_BY = ("key", "image")
_EXAMPLES = 3
_LONGEST_ROW = 1 << 20  # characters
_MOST_TARGETS = 1000
Rule = Callable[[str], str | None]


@dataclass(frozen=True)
class Targets:
    """Targets of the images of a manifest, in its order.

    Attributes:
        values: column -> (n,) float64, NaN where unknown, in the file's order of columns.
        unmatched: number of rows that name no image of the manifest, because it was refused, is a copy of another, or
            is not in the source.
        examples: the first names of such rows.
        texts: column of words or captions -> (n,) objects, None where unknown.
        names: all columns, in the file's order.
    """

    values: dict[str, np.ndarray]
    unmatched: int
    examples: tuple[str, ...] = ()
    texts: dict[str, np.ndarray] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    @property
    def attributes(self) -> list[str]:
        """Columns that hold only 0 and 1."""
        return [name for name, column in self.values.items() if np.isin(column[~np.isnan(column)], (0, 1)).all()]

    @property
    def quantities(self) -> list[str]:
        """All other columns."""
        return [name for name in self.values if name not in self.attributes]


def read_targets(
    keys: Sequence[str],
    paths: Sequence[str],
    path: str | Path = TARGETS,
    pages: Sequence[int | None] = (),
    texts: Mapping[str, Rule] | None = None,
) -> Targets:
    """Read the file and join it with a manifest.

    Args:
        keys: those of the manifest.
        paths: those of the manifest, in the same order.
        pages: the page of its file that each image is, None where the file has one; empty if that is so of all.
        path: the file.
        texts: columns that hold words or captions instead of numbers, each with the rule for them: it returns what is
            wrong with a text, as a clause, or None.

    Raises:
        ManifestError: the file is not CSV as above, a column's name cannot be that of a metric, a value is not a
            number, an image is named twice or by the end of several paths, or no row names an image.
    """
    path, texts = Path(path), texts or {}
    if not path.exists():
        return Targets({}, 0)
    rows = _rows(path)
    head, first = next(rows, None), next(rows, None)
    if head is None or first is None:
        return Targets({}, 0, names=tuple((head or [])[1:]))
    by, *names = head
    _check_head(by, names, path)
    columns: dict[str, np.ndarray] = {
        name: np.full(len(keys), None, dtype=object) if name in texts else np.full(len(keys), np.nan) for name in names
    }
    find = _Images(paths, pages or [None] * len(paths)).find if by == "image" else _by_key(keys)
    unmatched = 0
    examples: list[str] = []
    line_of: dict[int, int] = {}  # row of the manifest -> line of the file that names it
    for number, row in enumerate(chain([first], rows), 2):
        if len(row) != len(head):
            raise _wrong(
                f"line {number} must have {len(head)} fields", path, len(row), "Quote fields that contain commas."
            )
        found = find(row[0])
        if found is None:
            unmatched += 1
            examples += [row[0]] if len(examples) < _EXAMPLES else []
            continue
        earlier = next((line_of[i] for i in found if i in line_of), None)
        if not found or earlier:
            what = f"already named in line {earlier}" if earlier else "the end of several paths"
            raise _wrong(
                f"line {number}: an image must be named once",
                path,
                f"{row[0]} ({what})",
                "Write more of its path, or use a column `key` (data/ingest/manifest.parquet has both).",
            )
        line_of |= dict.fromkeys(found, number)
        for name, text in zip(names, row[1:], strict=True):
            where = f"line {number}, column {name}"
            columns[name][found] = (
                _text(text, texts[name], where, path) if name in texts else _number(text, where, path)
            )
    if not line_of:
        raise _wrong(
            "no row names an image of the manifest",
            path,
            f"for instance {first[0]}",
            "Write the end of the image's path, or use a column `key` (data/ingest/manifest.parquet has both).",
        )
    values = {name: column for name, column in columns.items() if name not in texts}
    words = {name: column for name, column in columns.items() if name in texts}
    return Targets(values, unmatched, tuple(examples), words, tuple(names))


class _Images:
    """The images of a manifest by the names of their files.

    Args:
        paths: of the files.
        pages: which page each image is, None where its file is not a stack.
    """

    def __init__(self, paths: Sequence[str], pages: Sequence[int | None]) -> None:
        self._pages = pages
        self._of_file: dict[str, list[int]] = {}
        for i, path in enumerate(paths):
            self._of_file.setdefault(path, []).append(i)
        self._files = list(self._of_file)
        self._names = ImageNames(self._files)

    def find(self, name: str) -> list[int] | None:
        """Return the images that a name means: none where it fits several files, None where it fits no file."""
        i, page = self._names.find(name), None
        if i is None and (match := _PAGE.fullmatch(name.strip())):
            i, page = self._names.find(match[1]), int(match[2])
        if i is None or i < 0:
            return None if i is None else []
        images = self._of_file[self._files[i]]
        if page is not None:
            return [j for j in images if self._pages[j] == page] or None
        return images if len(images) == 1 or all(self._pages[j] for j in images) else []


def _by_key(keys: Sequence[str]) -> Callable[[str], list[int] | None]:
    index = {key: [i] for i, key in enumerate(keys)}
    return lambda name: index.get(name.strip())


class _Lines:
    """The lines of a file, with a limit on those of one row: a quoted field may hold line breaks."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._left = file, _LONGEST_ROW

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._file.readline(self._left + 1)
        if not line:
            raise StopIteration
        self._left -= len(line)
        if self._left < 0:
            raise csv.Error(f"a row of more than {_LONGEST_ROW} characters")
        return line

    def next_row(self) -> None:
        """Begin another row."""
        self._left = _LONGEST_ROW


def _rows(path: Path) -> Iterator[list[str]]:
    """Yield the rows that are not empty, the head first, without keeping them.

    Raises:
        ManifestError: the file is not CSV, or no regular file.
    """
    try:
        with open_regular(path) as descriptor, open(descriptor, "rb", closefd=False) as raw:
            lines = _Lines(io.TextIOWrapper(raw, encoding="utf-8-sig", newline=""))
            for row in csv.reader(lines, strict=True):
                lines.next_row()
                if row:
                    yield row
    except (ImageRefused, UnicodeDecodeError, csv.Error) as error:
        found = error.found if isinstance(error, ImageRefused) else error
        raise _wrong("the file is not CSV", path, found, "Save it as comma-separated UTF-8 text.") from error


def _check_head(by: str, names: list[str], path: Path) -> None:
    if by not in _BY:
        raise _wrong("the first column must be `image` or `key`", path, by, "Name the columns in the first line.")
    if len(names) > _MOST_TARGETS:
        raise _wrong(f"there can be {_MOST_TARGETS} targets", path, f"{len(names)} columns", "Keep those to be probed.")
    for name in names:
        if not _NAME.match(name) or names.count(name) > 1:
            raise _wrong(
                "each column needs its own name, of lower-case letters, digits and underscores",
                path,
                name,
                "Rename the column; its metrics are named after it.",
            )


def _number(text: str, where: str, path: Path) -> float:
    text = text.strip()
    if not text:
        return math.nan
    try:
        value = float(text)
    except ValueError:
        value = math.inf
    if not math.isfinite(value):
        raise _wrong(f"{where}: a target must be a finite number or empty", path, text, "Write a number, or nothing.")
    return value


def _text(text: str, rule: Rule, where: str, path: Path) -> str | None:
    text = text.strip()
    if text and (problem := rule(text)):
        fix = "Shorten the text, or write it in one line without invisible characters."
        raise _wrong(f"{where}: {problem}", path, text, fix)
    return text or None


def _wrong(what: str, path: Path, found: object, fix: str) -> ManifestError:
    return ManifestError(what, where=path, found=found, fix=fix)
