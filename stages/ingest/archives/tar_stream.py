"""Read the members of a tar from a stream, in bounded memory and time, whatever its headers say.

Python's `tarfile` reads the headers of extended archives (pax, GNU) at any length, and one after the other by
recursion. Here a header of that kind has a small limit, and links, devices and sparse files have no content.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from reprise.storage.ustar import BLOCK

_LONGEST_EXTENSION = 64 << 10  # bytes of a pax or GNU header
_MOST_EXTENSIONS = 8  # before one member
_FILES, _LINKS_AND_DEVICES = b"0\0" + b"7", b"123456"
_PAX, _PAX_FOR_ALL, _LONG_NAME, _LONG_LINK = b"x", b"g", b"L", b"K"


class Stream(Protocol):
    """Where a tar is read from."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, and none only at the end."""


@dataclass(frozen=True)
class Member:
    """One member.

    Attributes:
        name: as stated, whatever it is; it leads nowhere.
        size: of its content in bytes.
        regular: whether it is a file.
    """

    name: str
    size: int
    regular: bool


class TarStream:
    """A tar, read once from its beginning to its end.

    Args:
        stream: the unpacked bytes.
        most_members: more are refused.
    """

    def __init__(self, stream: Stream, most_members: int) -> None:
        self._stream, self._most = stream, most_members
        self._left = self._padding = 0

    def __iter__(self) -> Iterator[Member]:
        """Yield the members in their order; `read` returns the content of the latest.

        Raises:
            ValueError: no tar, damaged, or beyond the limits.
        """
        number = 0
        while (member := self._next()) is not None:
            number += 1
            if number > self._most:
                raise ValueError(f"more than {self._most} members")
            yield member

    def read(self) -> bytes:
        """Return the content of the latest member."""
        data = self._exactly(self._left)
        self._left = 0
        return data

    def _next(self) -> Member | None:
        """Read headers up to that of a member; None at the end of the archive."""
        stated: dict[str, str] = {}
        for _ in range(_MOST_EXTENSIONS + 1):
            self._skip()
            block = self._exactly(BLOCK, may_end=True)
            if not block.strip(b"\0"):
                return None
            name, size, kind = _parsed(block)
            self._expect(0 if kind in _LINKS_AND_DEVICES else size)
            if kind not in (_PAX, _PAX_FOR_ALL, _LONG_NAME, _LONG_LINK):
                if "size" in stated:
                    self._expect(_number(stated["size"]))
                return Member(stated.get("path", name), self._left, kind in _FILES)
            if size > _LONGEST_EXTENSION:
                raise ValueError(f"a header of {size} bytes")
            content = self.read()
            if kind == _PAX:
                stated |= _records(content)
            elif kind == _LONG_NAME:
                stated["path"] = _text(content)
        raise ValueError(f"more than {_MOST_EXTENSIONS} headers of one member")

    def _expect(self, size: int) -> None:
        self._left, self._padding = size, -size % BLOCK

    def _skip(self) -> None:
        left, self._left, self._padding = self._left + self._padding, 0, 0
        while left:
            piece = self._stream.read(min(left, 1 << 20))
            if not piece:
                raise ValueError("the archive ends too early")
            left -= len(piece)

    def _exactly(self, size: int, may_end: bool = False) -> bytes:
        pieces, left = [], size
        while left and (piece := self._stream.read(left)):
            pieces.append(piece)
            left -= len(piece)
        if left and not (may_end and left == size):
            raise ValueError("the archive ends too early")
        return b"".join(pieces)


def _parsed(block: bytes) -> tuple[str, int, bytes]:
    """Read name, size and type from a header, and compare its checksum."""
    blank = block[:148] + b" " * 8 + block[156:]
    try:
        stated = int(block[148:156].strip(b" \0") or b"-1", 8)
        size = int(block[124:136].strip(b" \0") or b"0", 8)
    except ValueError:
        raise ValueError("no tar, or a damaged one") from None
    if stated != sum(blank) or size < 0:
        raise ValueError("no tar, or a damaged one")
    name = _text(block[:100])
    prefix = _text(block[345:500]) if block[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name, size, block[156:157]


def _records(content: bytes) -> dict[str, str]:
    """Read the records of a pax header, "<length> <key>=<value>\\n", of which only path and size matter here."""
    found: dict[str, str] = {}
    at = 0
    while at < len(content) and content[at : at + 1] != b"\0":
        digits, blank, _ = content[at : at + 8].partition(b" ")
        if not blank or not digits.isdigit() or not len(digits) + 1 < int(digits) <= len(content) - at:
            raise ValueError("a damaged pax header")
        key, _, value = content[at + len(digits) + 1 : at + int(digits) - 1].partition(b"=")
        if key in (b"path", b"size"):
            found[key.decode("ascii")] = _text(value)
        at += int(digits)
    return found


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 15):
        raise ValueError("a damaged pax header")
    return int(text)


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "backslashreplace")
