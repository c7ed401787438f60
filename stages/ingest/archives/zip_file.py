"""List the members of a ZIP archive, and read one when it is asked for, in bounded memory, whatever its headers say.

The central directory alone says what there is, as every program has it (APPNOTE.TXT 6.3.10, sections 4.3 and 4.4).
Python's `zipfile` refuses the whole archive for one name that is not UTF-8, and it trusts stated lengths and places.
"""

from __future__ import annotations

import bz2
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from reprise.config.errors import ImageRefused
from reprise.storage.listing import open_regular, read_part, too_many_bytes
from stages.ingest.archives.members import MOST_MEMBERS, Found, plain_name
from stages.ingest.source import Encoded

_END, _END64, _LOCATOR, _ENTRY, _LOCAL = b"PK\5\6", b"PK\6\6", b"PK\6\7", b"PK\1\2", b"PK\3\4"
_LONGEST_COMMENT = 0xFFFF
_STORED, _DEFLATED, _BZIP2 = 0, 8, 12
_OTHERS = {9: "Deflate64", 14: "LZMA", 93: "Zstandard", 95: "XZ", 98: "PPMd", 99: "AES encryption"}
_ENCRYPTED, _UTF8 = 0x1, 0x800
_WINDOWS = (0, 10, 14)  # systems whose programs may write backslashes between folders
_UNIX = (3, 19)
_MISSING32 = 0xFFFFFFFF


@dataclass(frozen=True)
class ZipMember(Encoded):
    """A member of a ZIP archive.

    Attributes:
        path: of the archive.
        header: place of its local header.
        name: as the central directory has it, in bytes; the local header must have the same one.
        packed: bytes in the archive.
        size: bytes of the content.
        method: of compression.
        checksum: CRC-32 of the content.
    """

    path: str
    header: int
    name: bytes
    packed: int
    size: int
    method: int
    checksum: int

    def read(self, limit: int) -> bytes:
        """Unpack the member and compare its length and its checksum."""
        if self.size > limit:
            raise too_many_bytes(self.path, self.size, limit)
        packed = read_part(self.path, self._begin(), self.packed, self.packed)
        try:
            data = _unpacked(packed, self.method, self.size)
        except (ValueError, OSError, EOFError, zlib.error) as error:
            raise self._refused("undecodable", str(error)) from error
        if len(data) != self.size:
            raise self._refused("truncated", f"it unpacks to {len(data):,} bytes, and the archive says {self.size:,}")
        if zlib.crc32(data) != self.checksum:
            raise self._refused("undecodable", "its checksum (CRC-32) is another one")
        return data

    def place(self) -> tuple[str, int] | None:
        """Return where the content lies, if it is not compressed."""
        return (self.path, self._begin()) if self.method == _STORED else None

    def _begin(self) -> int:
        """Return the place of the packed content, which the local header in front of it tells."""
        header = read_part(self.path, self.header, 30 + len(self.name), 1 << 20)
        if header[:4] != _LOCAL or header[30:] != self.name:
            raise self._refused("undecodable", "the header in front of it names another member than the directory")
        return self.header + 30 + sum(struct.unpack("<HH", header[26:30]))

    def _refused(self, reason: str, found: str) -> ImageRefused:
        return ImageRefused(reason, where=self.path, found=found, fix="Pack the archive again.")


def _unpacked(packed: bytes, method: int, size: int) -> bytes:
    """Decompress, but never much more than the stated length."""
    if method == _STORED:
        return packed
    if method == _BZIP2:
        return bz2.BZ2Decompressor().decompress(packed, size + 1)
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, size + 1)


def list_zip(path: str) -> list[Found]:
    """List all members but folders, in the order of the central directory.

    Raises:
        ValueError: no ZIP archive, or one whose directory is missing or damaged.
        ImageRefused: the file cannot be read.
    """
    with open_regular(path) as descriptor, open(descriptor, "rb", closefd=False) as file:
        length = os.fstat(descriptor).st_size
        directory, base, count = _directory(file, length)
        members = list(_members(path, directory, base, count))
    return _without_overlaps(members, length)


def _directory(file: BinaryIO, length: int) -> tuple[bytes, int, int]:
    """Return the central directory, what bytes in front of the archive add to each place, and the number of entries."""
    file.seek(max(0, length - _LONGEST_COMMENT - 22 - 20))
    tail = file.read()
    at = _end_record(tail)
    disk, first_disk, here, count, size, offset = struct.unpack("<HHHHII", tail[at + 4 : at + 20])
    end = length - len(tail) + at
    if tail[at - 20 : at - 16] == _LOCATOR and at >= 20:
        (place,) = struct.unpack("<Q", tail[at - 12 : at - 4])
        # Bytes in front of the archive move this record too; it lies right before its locator.
        for record_at in (place, end - 20 - 56):
            file.seek(max(0, record_at))
            record = file.read(56)
            if record[:4] == _END64 and len(record) == 56:
                disk, first_disk, here, count, size, offset = struct.unpack("<IIQQQQ", record[16:56])
                end = record_at
                break
        else:
            raise ValueError("a ZIP archive whose ZIP64 record is missing")
    if disk or first_disk or here != count:
        raise ValueError("a ZIP archive in several parts: join them first (`zip -s 0 parts.zip --out whole.zip`)")
    if size > end:
        raise ValueError("a ZIP archive that was cut off: its directory is longer than the file")
    if count > MOST_MEMBERS:
        raise ValueError(f"more than {MOST_MEMBERS:,} members")
    base = end - size - offset
    if base < 0:
        raise ValueError("a ZIP archive that was cut off: its directory lies beyond the end")
    file.seek(end - size)
    return file.read(size), base, count


def _end_record(tail: bytes) -> int:
    """Return the place of the record that ends an archive; a comment behind it may look like another one.

    Raises:
        ValueError: there is none whose comment reaches to the end of the file.
    """
    at = tail.rfind(_END)
    first = at
    while at >= 0:
        if at + 22 <= len(tail) and at + 22 + int.from_bytes(tail[at + 20 : at + 22], "little") == len(tail):
            return at
        at = tail.rfind(_END, 0, at)
    if first < 0:
        raise ValueError("no ZIP archive, or one that was cut off: the directory at its end is missing")
    raise ValueError("a ZIP archive with other data after its end, or one that was cut off there")


def _members(path: str, directory: bytes, base: int, count: int) -> Iterator[Found]:
    at = entries = 0
    while at < len(directory):
        entries += 1
        fixed = directory[at : at + 46]
        if len(fixed) < 46 or fixed[:4] != _ENTRY:
            raise ValueError("a ZIP archive whose directory is damaged")
        made_by, flags, method = fixed[5], *struct.unpack("<HH", fixed[8:12])
        checksum, packed, size, name_length, extra_length, comment_length = struct.unpack("<IIIHHH", fixed[16:34])
        attributes, offset = struct.unpack("<II", fixed[38:46])
        at += 46
        raw = directory[at : at + name_length]
        extra = directory[at + name_length : at + name_length + extra_length]
        at += name_length + extra_length + comment_length
        if at > len(directory):
            raise ValueError("a ZIP archive whose directory is damaged")
        size, packed, offset = _long_values(extra, size, packed, offset)
        name, reason, detail = _named(raw, flags, made_by)
        mode = attributes >> 16 if made_by in _UNIX else 0
        if raw.endswith((b"/", b"\\") if made_by in _WINDOWS else b"/") or stat.S_ISDIR(mode):
            continue
        reference = ZipMember(path, base + offset, raw, packed, size, method, checksum)
        found = Found(name, size, packed, reference, reason, detail)
        yield _with_header(found, flags, method, mode)
    if entries != count:
        raise ValueError(f"a ZIP archive that states {count:,} entries and has {entries:,}")


def _long_values(extra: bytes, size: int, packed: int, offset: int) -> tuple[int, int, int]:
    """Take the values that do not fit into 32 bits from the extra field of ZIP64."""
    values, at = [size, packed, offset], 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack("<HH", extra[at : at + 4])
        field = extra[at + 4 : at + 4 + length]
        if kind == 1:
            for i, value in enumerate(values):
                if value == _MISSING32 and len(field) >= 8:
                    values[i] = int.from_bytes(field[:8], "little")
                    field = field[8:]
            break
        at += 4 + length
    return values[0], values[1], values[2]


def _named(raw: bytes, flags: int, made_by: int) -> tuple[str, str | None, str]:
    """Decode a name: UTF-8, which most programs write although only some say so, or else the code page of DOS."""
    utf8 = True
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError:
        utf8 = not flags & _UTF8
        name = raw.decode("cp437") if utf8 else raw.decode("utf-8", "backslashreplace")
    if made_by in _WINDOWS:
        name = name.replace("\\", "/") if utf8 else name
    return plain_name(name, utf8)


def _with_header(found: Found, flags: int, method: int, mode: int) -> Found:
    """Refuse what is no file that can be read."""
    if flags & _ENCRYPTED or method == 99:
        return found.refused("encrypted", "it is encrypted: pack it without a password")
    if stat.S_ISLNK(mode):
        return found.refused("link_in_archive", "a link is not followed: pack the file itself")
    if mode and stat.S_IFMT(mode) and not stat.S_ISREG(mode):
        return found.refused("not_a_file", "it is a device, a FIFO or a socket")
    if method not in (_STORED, _DEFLATED, _BZIP2):
        named = _OTHERS.get(method, f"number {method}")
        detail = f"its compression is {named}: pack it with Deflate, the usual one, or without"
        return found.refused("unsupported_compression", detail)
    if method == _STORED and found.size != found.packed:
        return found.refused("undecodable", "it is stored as it is, and yet has two lengths")
    return found


def _without_overlaps(members: list[Found], length: int) -> list[Found]:
    """Refuse members that share bytes of the archive, of which a bomb can be made, or that lie beyond its end."""
    references = [member.reference for member in members]
    placed = sorted((r.header, index) for index, r in enumerate(references) if isinstance(r, ZipMember))
    shared: set[int] = set()
    reach, holder = 0, -1
    for begin, index in placed:
        reference = references[index]
        assert isinstance(reference, ZipMember)
        if begin < reach:
            shared |= {index, holder}
        end = begin + 30 + len(reference.name) + reference.packed
        if end > length:
            members[index] = members[index].refused("truncated", "it lies beyond the end of the archive")
        if end > reach:
            reach, holder = end, index
    for index in shared:
        members[index] = members[index].refused("archive_bomb", "it shares bytes with another member")
    return members
