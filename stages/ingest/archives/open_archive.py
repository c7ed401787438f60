"""Tell archives from other files by their content, and list and read them alike."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from reprise.storage.listing import open_regular
from reprise.storage.ustar import BLOCK
from stages.ingest.archives.members import NESTED, Found, checked
from stages.ingest.archives.tar_file import compression, contents, list_tar, unpacked_begin
from stages.ingest.archives.zip_file import list_zip
from stages.ingest.source import Encoded, Once

_EXTENSIONS = (*(".zip", ".tar", ".tgz", ".tbz", ".tbz2", ".txz", ".tzst"), *(".gz", ".bz2", ".xz", ".zst"))


@dataclass
class Archive:
    """One archive of the user.

    Attributes:
        path: of the file.
        members: all but folders, in their order.
        compressed: whether members can only be read one after the other.
        notes: clauses on what is odd about it.
    """

    path: str
    members: list[Found]
    compressed: bool
    notes: list[str]

    def contents(self, wanted: Collection[int]) -> Iterator[tuple[int, Encoded]]:
        """Yield what reads each of the wanted members, by its number, in their order.

        Raises:
            DamagedTar: the archive changed since it was listed. ImageRefused: it cannot be read.
        """
        if self.compressed:
            yield from ((number, Once(data)) for number, data in contents(self.path, wanted))
            return
        for number in sorted(wanted):
            reference = self.members[number].reference
            assert reference is not None
            yield number, reference


def is_archive(path: str) -> bool:
    """Return whether a file is an archive, or has the name of one and should be.

    Raises:
        ImageRefused: it cannot be read.
    """
    return _kind(path) is not None


def open_archive(path: str, stays: bool = True) -> Archive:
    """List an archive.

    Args:
        path: of the file.
        stays: whether it is the user's file, in which members can be left.

    Raises:
        ValueError: it is damaged, or no archive that can be read. ImageRefused: the file cannot be read.
    """
    kind, length = _kind(path), os.stat(path).st_size
    if kind == "zip":
        return Archive(path, list(checked(list_zip(path), length)), False, [])
    if kind is None:
        raise ValueError("no ZIP archive and no tar")
    listing = list_tar(path, stays)
    return Archive(path, list(checked(listing.members, length)), listing.compressed, listing.notes)


def open_tar(path: str, stays: bool = True) -> Archive:
    """List a tar in which several members may have one name, as shards are read.

    Args:
        path: of the file.
        stays: whether it is the user's file, in which members can be left.

    Raises:
        DamagedTar: it is none, or damaged. ImageRefused: it cannot be read.
    """
    listing = list_tar(path, stays)
    members = checked(listing.members, os.stat(path).st_size, repeated=True)
    return Archive(path, list(members), listing.compressed, listing.notes)


def stem(name: str) -> str:
    """Return the name of an archive without the extensions that say how it is packed."""
    while (parts := os.path.splitext(name))[0] and parts[1].casefold() in _EXTENSIONS:
        name = parts[0]
    return name


def _kind(path: str) -> str | None:
    """Return zip or tar, by the content or else by the name; None for another file."""
    with open_regular(path) as descriptor:
        begin = os.pread(descriptor, BLOCK, 0)
    if begin.startswith((b"PK\3\4", b"PK\5\6")):
        return "zip"
    if _is_header(unpacked_begin(path, BLOCK) if compression(path) else begin):
        return "tar"
    name = os.path.basename(path)
    claims = NESTED.fullmatch(name) is not None
    if claims and name.casefold().endswith(".zip"):
        return "zip"
    return "tar" if claims else None


def _is_header(block: bytes) -> bool:
    try:
        stated = int(block[148:156].strip(b" \0"), 8)
    except ValueError:
        return False
    return len(block) == BLOCK and stated == sum(block[:148]) + 8 * 32 + sum(block[156:])
