"""Find the file that a cell of a table means, and refuse paths that lead out of the folders that a person names."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from reprise.artifacts.labels.image_names import plain
from reprise.config.errors import SourceError
from reprise.storage.system.machine import FAULTS, machine_error
from reprise.storage.walk import Entry, root_error

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_REFUSED = {
    errno.ENOENT: ("missing_file", "no such file"),
    errno.ENOTDIR: ("missing_file", "no such file"),
    errno.ELOOP: ("link_loop", "the link leads back to itself"),
}


class _Folder(NamedTuple):
    """A folder that cells name: its path for messages, its real path, whether files may lie in it, what went wrong."""

    path: str
    real: bytes
    inside: bool
    error: OSError | None = None


class Places:
    """The folders in which a table may name files.

    Args:
        base: where relative paths begin.
        link_roots: further folders into which paths and links may lead.

    Raises:
        SourceError: one of the folders is missing.
    """

    def __init__(self, base: Path, link_roots: Sequence[str]) -> None:
        self.base = base
        self._allowed = [_real(base), *(_real(Path(folder).expanduser()) for folder in link_roots)]
        self._folders: dict[str, _Folder] = {}  # by the path as it is written

    def find(self, written: str) -> tuple[str, Entry]:
        """Return the path to read, below the base as it is written there, and what is at that place.

        A path is taken as it is written; only if nothing is there, backslashes count as slashes, and spaces around it
        do not count.
        """
        if _URL.match(written):
            detail = "it is an address, and a table names files: fetch them first, or use the source `remote`"
            return written, Entry(b"", b"", "outside_root", detail)
        if "\0" in written:
            return written.replace("\0", "\\0"), Entry(b"", b"", "bad_value", "no path holds the character NUL")
        path, entry = self._look(written)
        if entry.reason == "missing_file" and (other := plain(written.strip())) not in (written, ""):
            again, found = self._look(other)
            if found.reason != "missing_file":
                return again, found
        return path, entry

    def _look(self, written: str) -> tuple[str, Entry]:
        above, _, own = written.rpartition("/")
        folder = self._folder("/" if written.startswith("/") and not above else above)
        path = own if folder.path == "." else f"{folder.path.rstrip('/')}/{own}"
        name = os.fsencode(path)
        try:
            if folder.error is not None:
                raise folder.error
            real, inside = folder.real.rstrip(b"/") + b"/" + os.fsencode(own), folder.inside
            status = os.lstat(real)
            if stat.S_ISLNK(status.st_mode) or own in ("", ".", ".."):
                real = os.path.realpath(real, strict=True)
                status, inside = os.stat(real), self._is_inside(real)
        except OSError as error:
            if error.errno in FAULTS:
                raise machine_error(path, error) from error
            reason, detail = _REFUSED.get(error.errno or 0, ("unreadable", f"it cannot be read: {error.strerror}"))
            return path, Entry(name, name, reason, detail)
        if not inside:
            where = os.fsdecode(self._allowed[0])
            detail = f"it leads out of {where}: name the folder that holds it in source.options.link_roots"
            return path, Entry(name, real, "outside_root", detail)
        if not stat.S_ISREG(status.st_mode):
            return path, Entry(name, real, "not_a_file", "it is a folder, a device, a FIFO or a socket")
        return path, Entry(name, real)

    def _folder(self, written: str) -> _Folder:
        """Resolve a folder, once for all files in it."""
        found = self._folders.get(written)
        if found is None:
            path = self.base / written
            try:
                real = os.path.realpath(os.fsencode(path), strict=True)
                found = _Folder(str(path), real, self._is_inside(real))
            except OSError as error:
                found = _Folder(str(path), b"", False, error)
            self._folders[written] = found
        return found

    def _is_inside(self, real: bytes) -> bool:
        return any((real + b"/").startswith(allowed.rstrip(b"/") + b"/") for allowed in self._allowed)


def _real(folder: Path) -> bytes:
    try:
        real = os.path.realpath(os.fsencode(folder), strict=True)
        with os.scandir(real):
            pass
    except OSError as error:
        raise root_error(folder, error) from error
    return real


def missing(folder: Path) -> SourceError:
    """Make the error of a table that is not there."""
    return SourceError(
        "there is no table",
        where=folder,
        found="nothing",
        fix="Set source.root in params.yaml to a file (.csv, .tsv, .parquet), or to a folder of such files.",
    )
