"""Read DVC's listings of folders, which may come from a remote or a cache that others can write to.

A listing (an object called `<md5>.dir`) is a JSON list of names and hashes. DVC fills a folder as it says. A hostile
one may name files outside that folder, or files by which another program can be made to run code.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable
from typing import Any, NamedTuple

from reprise.storage.content_hashes import DIR

LARGEST_LISTING = 128 << 20  # bytes; about a million names
_MD5 = re.compile(r"[0-9a-f]{32}")
_LONGEST_NAME, _LONGEST_PATH = 255, 4096  # bytes, as Linux has it
_RESERVED = frozenset({".git", ".dvc", ".hg", ".svn", ".gitmodules", ".gitattributes", ".dvcignore", ".gitignore"})


class Member(NamedTuple):
    """One file of a folder.

    Attributes:
        name: its path below the folder, with slashes.
        md5: the hash of its bytes.
    """

    name: str
    md5: str


class BadListing(Exception):
    """A listing is not what its name says, or it must not be followed; the text says why."""


def is_object_name(text: object) -> bool:
    """Return whether a value is the name of an object: an MD5, or that of a listing."""
    return isinstance(text, str) and _MD5.fullmatch(text.removesuffix(DIR)) is not None


def read_listing(data: bytes, name: str) -> list[Member]:
    """Read a listing and check its hash, its form and every name in it.

    Args:
        data: the bytes of the object; at most LARGEST_LISTING + 1 of them need be given.
        name: the object's name, `<md5>.dir`.

    Raises:
        BadListing: other bytes than the name says, no such list, or a name that no folder of ours holds.
    """
    if len(data) > LARGEST_LISTING:
        raise BadListing(f"it is larger than {LARGEST_LISTING >> 20} MiB")
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if found != name.removesuffix(DIR):
        raise BadListing(f"its bytes have the MD5 {found}")
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadListing(f"it is no JSON: {error}") from error
    if not isinstance(content, list):
        raise BadListing("it is no list")
    members = [_member(entry) for entry in content]
    check_names(member.name for member in members)
    return members


def _member(entry: Any) -> Member:
    if not isinstance(entry, dict) or entry.keys() != {"md5", "relpath"}:
        raise BadListing(f"an entry is not a file with its MD5: {str(entry)[:200]}")
    name, md5 = entry["relpath"], entry["md5"]
    if not isinstance(md5, str) or not _MD5.fullmatch(md5):
        raise BadListing(f"an entry has no MD5: {str(entry)[:200]}")
    problem = problem_of_name(name)
    if problem:
        raise BadListing(f"the name {str(name)[:200]!r} {problem}")
    return Member(name, md5)


def problem_of_name(name: object) -> str | None:
    """Return what is wrong with the name of a file below an output, or None if the output may hold such a file."""
    if not isinstance(name, str):
        return "is no text"
    if not name.isprintable():
        return "holds control or invisible characters"
    if name.startswith("/") or "\\" in name or re.match(r"[A-Za-z]:", name):
        return "is no path below the folder"
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts):
        return "leads out of the folder or nowhere"
    try:
        too_long = len(name.encode()) > _LONGEST_PATH or any(len(part.encode()) > _LONGEST_NAME for part in parts)
    except UnicodeEncodeError:
        return "is no valid text"
    if too_long:
        return "is too long"
    # File systems that ignore case or marks take these for the names that git and DVC look for.
    if any(_folded(part).rstrip(". ") in _RESERVED or re.match(r"(?i)git~\d", part) for part in parts):
        return "is reserved for git or DVC"
    return None


def check_names(names: Iterable[str]) -> None:
    """Check that names can lie beside each other on every file system.

    Raises:
        BadListing: two names are the same, differ only in case or in the encoding of marks, or one is both a file and
            a folder.
    """
    files: dict[str, str] = {}
    for name in names:
        other = files.get(_folded(name))
        files[_folded(name)] = name
        if other is not None:
            difference = "stands twice in it" if other == name else f"and {other[:200]!r} differ only in case or marks"
            raise BadListing(f"the name {name[:200]!r} {difference}")
    folders: dict[str, str] = {}  # folded -> as it is written
    for name in files.values():
        parts = name.split("/")
        for length in range(1, len(parts)):
            above = "/".join(parts[:length])
            if _folded(above) in files:
                raise BadListing(f"the name {above[:200]!r} is both a file and a folder")
            if folders.setdefault(_folded(above), above) != above:
                raise BadListing(
                    f"the folders {above[:200]!r} and {folders[_folded(above)][:200]!r} differ only in case"
                )


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()
