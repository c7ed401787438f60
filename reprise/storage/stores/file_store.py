"""Files of a folder that a `file` address names, by the rules for folders: no link leads out, no device is opened."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from reprise.config.errors import ImageRefused
from reprise.storage.atomic import atomic_file, explained_storage, naming
from reprise.storage.listing import open_regular, too_many_bytes
from reprise.storage.stores.store import ANY, Object, Store, changed, nothing_there
from reprise.storage.walk import list_entries

_PIECE = 8 << 20


class FileStore(Store):
    """A folder."""

    def listing(self) -> Iterator[Object]:
        """Yield all files below the folder, sorted by name, and what is refused."""
        entries = list_entries(self.address.place)
        if not entries:
            raise nothing_there(self.address)
        for entry in entries:
            if entry.reason is None:
                yield self._described(entry.text)
            else:
                yield Object(entry.text, None, "", entry.reason, entry.detail)

    def describe(self, names: Sequence[str]) -> Iterator[Object]:
        """Look at each name; those that the listing does not have are not there."""
        if list(names) == [""]:
            yield self._described("")
            return
        listed = {item.name: item for item in self.listing()}
        for name in names:
            yield listed.get(name) or Object(name, None, "", "unreadable", "there is no such file")

    def look_once(self, name: str) -> Object:
        """Look at one file, without a listing of the others."""
        return self._described(name)

    def fetch(self, item: Object, limit: int, write: Callable[[bytes], object]) -> None:
        """Copy one file, and compare its size and times afterwards."""
        where = self.shown(item.name)
        if (item.size or 0) > limit:
            raise too_many_bytes(where, item.size or 0, limit)
        with open_regular(self._path(item.name)) as descriptor:
            if item.version not in (ANY, _version(os.fstat(descriptor))):
                raise changed(where, "other size or times than when it was listed")
            left = item.size or 0
            while left and (piece := os.read(descriptor, min(left, _PIECE))):
                write(piece)
                left -= len(piece)

    def send(self, name: str, path: Path, sha256: str) -> None:
        """Copy a file into the folder, which is made."""
        with open(path, "rb") as source, atomic_file(self._path(name)) as target:
            while True:
                with naming(path):
                    piece = source.read(_PIECE)
                if not piece:
                    break
                with naming(self._path(name)):
                    target.write(piece)

    def remove(self, name: str) -> None:
        """Remove a file of the folder."""
        path = self._path(name)
        with explained_storage(Path(path)):
            os.unlink(path)

    def _path(self, name: str) -> str:
        return f"{self.address.place}/{name}" if name else self.address.place

    def _described(self, name: str) -> Object:
        try:
            with open_regular(self._path(name)) as descriptor:
                status = os.fstat(descriptor)
        except ImageRefused as refusal:
            return Object(name, None, "", refusal.what, refusal.found)
        return Object(name, status.st_size, _version(status))


def _version(status: os.stat_result) -> str:
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"
