"""Find the official files of a known data set. Reprise downloads none: a message names the file and where it is."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from reprise.config.errors import ImageRefused, SourceError
from reprise.storage.listing import digest_files, read_regular
from stages.ingest.source import Extent


@dataclass(frozen=True)
class OfficialFile:
    """A file of a data set.

    Attributes:
        name: as its authors call it.
        address: the page or URL from which people fetch it.
        also: other names under which it is known, such as its packed form; the first that exists is read.
    """

    name: str
    address: str
    also: tuple[str, ...] = ()


def locate(root: Path, files: Iterable[OfficialFile]) -> dict[str, Path]:
    """Return the path of each file by its official name.

    Raises:
        SourceError: there is no such folder, or one of the files is not in it.
    """
    if not os.path.isdir(root):
        raise SourceError(
            "the root of the source is the folder with the official files",
            where=root,
            found="no such folder" if not os.path.exists(root) else "no folder",
            fix=f"Fetch them from {next(iter(files)).address}, and set source.root to their folder.",
        )
    found: dict[str, Path] = {}
    for file in files:
        path = next((root / name for name in (file.name, *file.also) if os.path.exists(root / name)), None)
        if path is None:
            names = " or ".join((file.name, *file.also))
            raise SourceError(
                "a file of the data set is missing",
                where=root,
                found=f"no {names}",
                fix=f"Fetch it from {file.address} and put it there.",
            )
        found[file.name] = path
    return found


def extent_of(files: Mapping[str, Path]) -> Extent:
    """Measure and hash the files; one is read again only if its size, times or inode changed.

    Raises:
        SourceError: one cannot be read.
    """
    try:
        size, digest = digest_files(files)
    except ImageRefused as refusal:
        raise unreadable(str(refusal.where), refusal.found) from refusal
    return Extent(len(files), size, digest)


def whole_file(path: Path, limit: int) -> bytes:
    """Return all bytes of a file.

    Raises:
        SourceError: it cannot be read, or is longer than `limit` bytes.
    """
    try:
        return read_regular(os.path.realpath(path), limit)
    except ImageRefused as refusal:
        raise unreadable(path, refusal.found) from refusal


def unreadable(where: str | Path, found: object) -> SourceError:
    """Build the error of a file that is not what the data set's authors wrote."""
    return SourceError(
        "a file of the data set cannot be read", where=where, found=found, fix="Fetch the file again, and unpack it."
    )


def class_names(path: Path, count: int) -> list[str]:
    """Read the names of classes, one a line.

    Args:
        path: the file, in UTF-8.
        count: number of classes.

    Raises:
        SourceError: it has other lines than `count` different names of up to 200 characters.
    """
    try:
        lines = whole_file(path, 1 << 20).decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise unreadable(path, "bytes that are not UTF-8") from error
    names = [line.strip() for line in lines if line.strip()]
    if len(names) != count or len(set(names)) != count:
        raise unreadable(path, f"{len(names)} names, {len(set(names))} of them different; there are {count} classes")
    if bad := next((name for name in names if len(name) > 200 or not name.isprintable()), None):
        raise unreadable(path, f"{bad[:40]!r}, which is no name")
    return names
