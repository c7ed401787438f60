"""The structure of a TIFF file: byte order, the chain of directories (one a page), and their tags. No pixels.

Classic TIFF (version 42) and BigTIFF (43). Every number comes from the file, so each is compared with the length of the
file before it is used.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from reprise.media.image.readers.refusal import Truncated

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
MOST_PAGES = 10_000
_TYPES = {  # code of a tag's type -> numpy's name, without byte order
    1: "u1",
    2: "S1",
    3: "u2",
    4: "u4",
    5: "u4",  # a fraction: two of them
    6: "i1",
    7: "S1",
    8: "i2",
    9: "i4",
    10: "i4",  # a fraction
    11: "f4",
    12: "f8",
    13: "u4",
    16: "u8",
    17: "i8",
    18: "u8",
}
_FRACTIONS = (5, 10)
_TEXT = (2, 7)


@dataclass(frozen=True)
class Directory:
    """The tags of one page.

    Attributes:
        number: position in the file's chain of directories, from 0.
        order: "<" or ">", the byte order of the file.
        tags: tag -> numbers, or bytes where the tag holds text or data without a type.
    """

    number: int
    order: str
    tags: Mapping[int, np.ndarray | bytes]

    def numbers(self, tag: int, default: tuple[float, ...] = ()) -> np.ndarray:
        """Return all numbers of a tag; those of `default` where the tag is missing or holds none."""
        values = self.tags.get(tag)
        return values if isinstance(values, np.ndarray) and len(values) else np.array(default)

    def integer(self, tag: int, default: int | None = None) -> int:
        """Return the first number of a tag as an integer.

        Raises:
            ValueError: the tag is missing, and there is no default.
        """
        values = self.numbers(tag, () if default is None else (default,))
        if not len(values):
            raise ValueError(f"tag {tag} is missing")
        return int(values[0])

    def text(self, tag: int) -> str:
        """Return the text of a tag, up to its first NUL; empty without one."""
        value = self.tags.get(tag)
        return value.split(b"\0")[0].decode("ascii", "replace") if isinstance(value, bytes) else ""


def read_directories(data: bytes) -> Iterator[Directory]:
    """Yield the directories of a TIFF in the order of the chain; a chain that leads back to itself ends there.

    Raises:
        Truncated: a directory, or the values of a tag, lie beyond the end of the file.
        ValueError: this is no TIFF, or it has more than MOST_PAGES directories.
    """
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    if data[:4] not in SIGNATURES:
        raise ValueError("not a TIFF")
    at, seen = _number(data, 8 if big else 4, order + ("Q" if big else "I")), set[int]()
    while at and at not in seen:
        if len(seen) == MOST_PAGES:
            raise ValueError(f"more than {MOST_PAGES:,} pages")
        seen.add(at)
        tags, at = _directory(data, at, order, big)
        yield Directory(len(seen) - 1, order, tags)


def _directory(data: bytes, at: int, order: str, big: bool) -> tuple[dict[int, np.ndarray | bytes], int]:
    """Read the directory at byte `at`, and return its tags and where the next one lies (0: nowhere)."""
    word, entry = ("Q", 20) if big else ("I", 12)
    count = _number(data, at, order + ("Q" if big else "H"))
    first = at + (8 if big else 2)
    if first + count * entry > len(data):
        raise Truncated("a directory lies beyond the end of the file")
    tags: dict[int, np.ndarray | bytes] = {}
    for place in range(first, first + count * entry, entry):
        tag, code, length = struct.unpack_from(f"{order}HH{word}", data, place)
        if code not in _TYPES or tag in tags:
            continue
        kind = np.dtype(order + _TYPES[code])
        items = length * (2 if code in _FRACTIONS else 1)
        where = place + struct.calcsize(f"{order}HH{word}")
        if items * kind.itemsize > struct.calcsize(word):  # the values do not fit into the entry
            where = _number(data, where, order + word)
        if where + items * kind.itemsize > len(data):
            raise Truncated(f"the values of tag {tag} lie beyond the end of the file")
        values = np.frombuffer(data, kind, items, where)
        if code in _TEXT:
            tags[tag] = values.tobytes()
        elif code in _FRACTIONS:
            tags[tag] = values[::2] / np.maximum(np.abs(values[1::2].astype(np.float64)), 1)
        else:
            tags[tag] = values.astype(kind.newbyteorder("="))
    after = first + count * entry
    # Some programs leave out the last pointer; then there is no further page.
    return tags, _number(data, after, order + word) if after + struct.calcsize(word) <= len(data) else 0


def _number(data: bytes, at: int, form: str) -> int:
    try:
        return int(struct.unpack_from(form, data, at)[0])
    except struct.error as error:
        raise Truncated(f"the file ends before byte {at:,}") from error
