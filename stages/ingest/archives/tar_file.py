"""List the members of a tar, compressed or not, and read them: in place, or in one pass where it is compressed."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from reprise.storage.listing import open_regular
from stages.ingest.archives.members import MOST_MEMBERS, Found, most_unpacked, plain_name
from stages.ingest.archives.tar_stream import Member, TarStream
from stages.ingest.source import Part

_SIGNS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_REFUSED = {
    "link": (
        "link_in_archive",
        "a link is not followed: pack the file itself (`tar -h --hard-dereference`)",
    ),
    "device": ("not_a_file", "it is a device or a FIFO"),
    "unknown": ("unsupported_member", "it is no plain file (a sparse one, or a type of one program)"),
}
_DAMAGE = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError)


class DamagedTar(ValueError):
    """A tar that ends too early, is damaged, unpacks to too much, or is none."""


@dataclass
class Listing:
    """What a tar holds.

    Attributes:
        members: all but folders, in their order.
        compressed: whether they can only be read one after the other.
        notes: clauses on what is odd about it.
    """

    members: list[Found]
    compressed: bool
    notes: list[str]


def compression(path: str) -> str | None:
    """Return gzip, bzip2, xz or zstd by the first bytes of a file; None for anything else.

    Raises:
        ImageRefused: the file cannot be read.
    """
    with open_regular(path) as descriptor:
        begin = os.pread(descriptor, 6, 0)
    return next((name for sign, name in _SIGNS.items() if begin.startswith(sign)), None)


def unpacked_begin(path: str, size: int) -> bytes:
    """Return the first bytes of what a compressed file holds; fewer where it is damaged.

    Raises:
        ImageRefused: it cannot be read.
    """
    with _opened(path, compression(path)) as (stream, _):
        try:
            data: bytes = stream.read(size)
        except _DAMAGE:
            return b""
    return data


def list_tar(path: str, stays: bool = True) -> Listing:
    """List all members but folders.

    Args:
        path: of the tar.
        stays: whether it is the user's file, in which members can be left.

    Raises:
        DamagedTar: it is none, or damaged. ImageRefused: it cannot be read.
    """
    packed = compression(path)
    with _opened(path, packed) as (stream, skip):
        tar = TarStream(stream, MOST_MEMBERS, skip)
        try:
            described = (_found(member, None if packed else path, stays) for member in tar)
            members = [found for found in described if found is not None]
            rest = stream.read(1 << 20)
            while rest and not rest.strip(b"\0"):
                rest = stream.read(1 << 20)
        except _DAMAGE as error:
            raise DamagedTar(str(error) or type(error).__name__) from error
    if not members and not tar.ended:
        raise DamagedTar("it is empty")
    if rest:
        raise DamagedTar("data after the mark of its end, as in several tars joined into one file")
    return Listing(members, packed is not None, [] if tar.ended else ["it has no mark of its end, and may be cut off"])


def contents(path: str, wanted: Collection[int]) -> Iterator[tuple[int, bytes]]:
    """Yield the contents of members of a tar in one pass, in their order.

    Args:
        path: of the tar, as it was listed.
        wanted: numbers of the members, in the order of `Listing.members`.

    Raises:
        DamagedTar: it changed, or is damaged. ImageRefused: it cannot be read.
    """
    number = 0
    with _opened(path, compression(path)) as (stream, skip):
        tar = TarStream(stream, MOST_MEMBERS, skip)
        try:
            for member in tar:
                if member.kind == "folder":
                    continue
                if number in wanted:
                    yield number, tar.read()
                number += 1
        except _DAMAGE as error:
            raise DamagedTar(str(error) or type(error).__name__) from error


def _found(member: Member, path: str | None, stays: bool) -> Found | None:
    """Describe a member; None for a folder."""
    if member.kind == "folder":
        return None
    name, reason, detail = plain_name(member.name, member.utf8)
    reference = None if path is None else Part(path, member.offset, member.size, stays)
    found = Found(name, member.size, 0 if path is None else member.size, reference, reason, detail, member.name)
    return found.refused(*_REFUSED[member.kind]) if member.kind in _REFUSED else found


@contextmanager
def _opened(path: str, packed: str | None) -> Iterator[tuple[Any, Callable[[int], None] | None]]:
    """Yield the unpacked stream, and what skips bytes of it faster than reading does."""
    with open_regular(path) as descriptor, open(descriptor, "rb", closefd=False) as file:
        length = os.fstat(descriptor).st_size
        if packed is None:
            yield file, _skipping(file, length)
        else:
            with _decompressed(file, packed) as stream:
                yield _Bounded(stream, most_unpacked(length)), None


def _skipping(file: BinaryIO, length: int) -> Callable[[int], None]:
    def skip(size: int) -> None:
        if file.seek(size, os.SEEK_CUR) > length:
            raise ValueError("the archive ends too early")

    return skip


def _decompressed(file: BinaryIO, packed: str) -> Any:
    if packed == "gzip":
        return gzip.GzipFile(fileobj=file)
    if packed == "bzip2":
        return bz2.BZ2File(file)
    if packed == "xz":
        return lzma.LZMAFile(file)
    import pyarrow as pa

    return pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd")


class _Bounded:
    """A stream that refuses to unpack to more than so many bytes."""

    def __init__(self, stream: Any, limit: int) -> None:
        self._stream, self._left = stream, limit

    def read(self, size: int) -> bytes:
        data: bytes = self._stream.read(min(size, 1 << 20))
        self._left -= len(data)
        if self._left < 0:
            raise ValueError("it unpacks to too many bytes for its length, as an archive bomb does")
        return data
