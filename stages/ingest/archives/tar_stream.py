"""Read the members of a tar from a stream, in bounded memory and time, whatever its headers say.

Python's `tarfile` reads the headers of extended archives (pax, GNU) at any length, and one after the other by
recursion. Here a header of that kind has a small limit, and links, devices and sparse files have no content.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from reprise.storage.ustar import BLOCK

_LONGEST_EXTENSION = 64 << 10  # bytes of a pax or GNU header
_MOST_EXTENSIONS = 8  # before one member
_FILES, _LINKS_AND_DEVICES = b"0\0" + b"7", b"123456"
_KINDS = {
    **dict.fromkeys((b"0", b"\0", b"7"), "file"),
    **dict.fromkeys((b"1", b"2"), "link"),
    **dict.fromkeys((b"3", b"4", b"6"), "device"),
    b"5": "folder",
}
_PAX, _PAX_FOR_ALL, _LONG_NAME, _LONG_LINK = b"x", b"g", b"L", b"K"


class Stream(Protocol):
    """Where a tar is read from."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, and none only at the end."""


@dataclass(frozen=True)
class Member:
    """One member.

    Attributes:
        name: as stated, whatever it is; it leads nowhere. Bytes that are not UTF-8 are written as \\xNN.
        size: of its content in bytes.
        regular: whether it is a file.
        kind: file, folder, link, device or unknown (a sparse file, a type of one program).
        offset: of its content in the stream.
        utf8: whether the name is UTF-8.
    """

    name: str
    size: int
    regular: bool
    kind: str = "file"
    offset: int = 0
    utf8: bool = True


class TarStream:
    """A tar, read once from its beginning to its end.

    Args:
        stream: the unpacked bytes.
        most_members: more are refused.
        skip: moves the stream on by so many bytes, where that is faster than reading them; it raises ValueError beyond
            the end.

    Attributes:
        ended: once all members were read, whether the archive has the mark of its end.
    """

    def __init__(self, stream: Stream, most_members: int, skip: Callable[[int], None] | None = None) -> None:
        self._stream, self._most, self._jump = stream, most_members, skip
        self._left = self._padding = self._at = 0
        self._for_all: dict[str, bytes] = {}
        self.ended = False

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
        stated = dict(self._for_all)
        for _ in range(_MOST_EXTENSIONS + 1):
            self._skip()
            block = self._exactly(BLOCK, may_end=True)
            if not block.strip(b"\0"):
                self.ended = bool(block)
                return None
            name, size, kind = _parsed(block)
            self._skip_sparse_map(block)
            self._expect(0 if kind in _LINKS_AND_DEVICES else size)
            if kind not in (_PAX, _PAX_FOR_ALL, _LONG_NAME, _LONG_LINK):
                if "size" in stated:
                    self._expect(_number(stated["size"]))
                return self._member(stated.get("path", name), kind, "sparse" in stated)
            if size > _LONGEST_EXTENSION:
                raise ValueError(f"a header of {size} bytes")
            content = self.read()
            if kind == _PAX_FOR_ALL:
                self._for_all |= _records(content)
                stated = self._for_all | stated
            elif kind == _PAX:
                stated |= _records(content)
            elif kind == _LONG_NAME:
                stated["path"] = _field(content)
        raise ValueError(f"more than {_MOST_EXTENSIONS} headers of one member")

    def _skip_sparse_map(self, header: bytes) -> None:
        """Skip the blocks that go on with the map of a sparse file in GNU's old form."""
        more = header[156:157] == b"S" and header[482] != 0
        while more:
            more = self._exactly(BLOCK)[504] != 0

    def _member(self, name: bytes, code: bytes, sparse: bool) -> Member:
        """Describe a member; old programs write a folder as a file whose name ends in a slash."""
        kind = "unknown" if sparse else _KINDS.get(code, "unknown")
        if kind == "file" and name.endswith(b"/"):
            kind = "folder"
        text = name.decode("utf-8", "backslashreplace")
        return Member(text, self._left, code in _FILES and kind == "file", kind, self._at, _is_utf8(name))

    def _expect(self, size: int) -> None:
        self._left, self._padding = size, -size % BLOCK

    def _skip(self) -> None:
        left, self._left, self._padding = self._left + self._padding, 0, 0
        self._at += left
        if left and self._jump is not None:
            self._jump(left)
            return
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
        self._at += size - left
        if left and not (may_end and left == size):
            raise ValueError("the archive ends too early")
        return b"".join(pieces)


def _parsed(block: bytes) -> tuple[bytes, int, bytes]:
    """Read name, size and type from a header, and compare its checksum."""
    blank = block[:148] + b" " * 8 + block[156:]
    try:
        stated = int(block[148:156].strip(b" \0") or b"-1", 8)
        size = _length(block[124:136])
    except ValueError:
        raise ValueError("no tar, or a damaged one") from None
    if stated != sum(blank) or size < 0:
        raise ValueError("no tar, or a damaged one")
    name = _field(block[:100])
    prefix = _field(block[345:500]) if block[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name, size, block[156:157]


def _length(field: bytes) -> int:
    """Read a length: octal digits, or what GNU writes beyond 8 GiB, a binary number after a byte 0x80."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    return int(field.strip(b" \0") or b"0", 8)


def _records(content: bytes) -> dict[str, bytes]:
    """Read the records of a pax header, "<length> <key>=<value>\\n": path, size, and whether the file is sparse."""
    found: dict[str, bytes] = {}
    at = 0
    while at < len(content) and content[at : at + 1] != b"\0":
        digits, blank, _ = content[at : at + 8].partition(b" ")
        if not blank or not digits.isdigit() or not len(digits) + 1 < int(digits) <= len(content) - at:
            raise ValueError("a damaged pax header")
        key, _, value = content[at + len(digits) + 1 : at + int(digits) - 1].partition(b"=")
        if key in (b"path", b"size"):
            found[key.decode("ascii")] = _field(value)
        elif key.startswith(b"GNU.sparse."):
            found["sparse"] = b"yes"
        at += int(digits)
    return found


def _number(text: bytes) -> int:
    if not (text.isdigit() and len(text) <= 15):
        raise ValueError("a damaged pax header")
    return int(text)


def _field(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
