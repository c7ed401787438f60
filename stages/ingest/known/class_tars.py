"""Read ImageNet's own archives in place: a tar of a tar for each synset, and a tar of validation images."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from reprise.config.errors import ImageRefused
from reprise.storage.listing import open_regular
from stages.ingest.archives.members import MOST_MEMBERS, Found, checked, plain_name
from stages.ingest.archives.tar_stream import TarStream
from stages.ingest.known.official_files import unreadable
from stages.ingest.known.synsets import SYNSET
from stages.ingest.source import LeftOut, Part, Refused

_END = ".tar"


def class_tars(path: Path) -> tuple[dict[str, Part], list[Refused]]:
    """List the tars of the synsets in the tar of train.

    Returns:
        the place of each by its synset, sorted, and what does not belong there.

    Raises:
        SourceError: it is no tar, or damaged.
    """
    members = list(_members(path, 0, os.stat(path).st_size))
    count = Counter(member.name for member in members)
    found: dict[str, Part] = {}
    refused = []
    for member in members:
        synset, name = member.name.removesuffix(_END), f"{path}/{member.name}"
        if count[member.name] > 1:
            refused.append(Refused(name, "repeated_name", "several members have this name"))
        elif not member.name.endswith(_END) or not SYNSET.fullmatch(synset) or not isinstance(member.reference, Part):
            refused.append(Refused(name, "outside_classes", "it is no tar of a synset, such as n01440764.tar"))
        else:
            found[synset] = member.reference
    return dict(sorted(found.items())), refused


def images_in(path: Path, place: Part | None = None) -> Iterator[Found]:
    """Yield the members of a tar, or of a tar inside a tar, sorted by name; those that are no images have a reason.

    Args:
        path: of the file.
        place: where the inner tar lies in it; None takes the whole file.

    Raises:
        SourceError: the file is damaged. ImageRefused: the inner tar is.
    """
    size = os.stat(path).st_size if place is None else place.size
    try:
        members = list(_members(path, 0 if place is None else place.offset, size, inner=place is not None))
    except ValueError as error:
        raise ImageRefused("damaged_archive", where="a tar of images", found=error, fix="Fetch it again.") from error
    for member in sorted(checked(members, size), key=lambda member: member.name):
        deep = "/" in member.name
        yield (
            member.refused("outside_classes", "it lies deeper than the official archives have images")
            if deep
            else member
        )


def refusal(name: str, member: Found) -> Refused | LeftOut:
    """Describe a member that is not taken, by a name that leads to it."""
    kind = LeftOut if member.is_left_out else Refused
    return kind(name, member.reason or "", member.detail)


def _members(path: Path, offset: int, size: int, inner: bool = False) -> Iterator[Found]:
    try:
        with open_regular(os.path.realpath(path)) as descriptor, open(descriptor, "rb", closefd=False) as file:
            section = _Section(file, offset, size)
            for member in TarStream(section, MOST_MEMBERS, section.skip):
                if member.kind == "folder":
                    continue
                name, reason, detail = plain_name(member.name, member.utf8)
                if reason == "nested_archive":  # which is what the tar of train consists of
                    reason, detail = None, ""
                found = Found(name, member.size, member.size, None, reason, detail)
                if member.kind != "file":
                    yield found.refused("link_in_archive", "it is a link or a device: only plain files are read")
                else:
                    yield replace(found, reference=Part(str(path), offset + member.offset, member.size))
    except ImageRefused as error:
        raise unreadable(path, error.found) from error
    except ValueError as error:
        if inner:
            raise
        raise unreadable(path, error) from error


class _Section:
    """A part of a file as a stream of its own, which ends where the part does."""

    def __init__(self, file: Any, offset: int, size: int) -> None:
        file.seek(offset)
        self._file, self._left = file, size

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes, and none at the end."""
        data: bytes = self._file.read(min(size, self._left))
        self._left -= len(data)
        return data

    def skip(self, size: int) -> None:
        """Move on.

        Raises:
            ValueError: beyond the end.
        """
        if size > self._left:
            raise ValueError("the archive ends too early")
        self._file.seek(size, os.SEEK_CUR)
        self._left -= size
