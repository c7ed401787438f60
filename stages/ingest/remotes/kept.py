"""Keep what was fetched, so that an ingest that was cut off goes on, and a later one fetches only what is new.

The files lie in .reprise/remote, in a folder for each address, under names made of the object's name and version. They
may be deleted whenever nothing runs: later stages read copies in data/ingest, and the next ingest fetches them again.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from reprise.storage.atomic import atomic_file, storage_error
from reprise.storage.stores.in_order import patiently
from reprise.storage.stores.store import Object, Store

FOLDER = Path(".reprise/remote")


class Kept:
    """What was fetched from one place.

    Args:
        place: an address or a pattern, after which the folder is named.
    """

    def __init__(self, place: str) -> None:
        self._folder = FOLDER / hashlib.sha256(place.encode()).hexdigest()[:24]
        self._used: set[str] = set()

    def fetch(self, store: Store, item: Object, limit: int) -> Path:
        """Return the file that holds an object, fetching it if it is not there yet.

        Args:
            store: of the object.
            item: the object as it was listed; what has no version is fetched each time.
            limit: largest length in bytes.

        Raises:
            ImageRefused: as `Store.fetch`. MachineError: the store does not answer.
        """
        name = hashlib.sha256(f"{store.shown(item.name)}\0{item.version}\0{item.size}".encode()).hexdigest()
        path = self._folder / name[:2] / name
        self._used.add(name)
        if item.version and path.exists() and item.size in (None, path.stat().st_size):
            return path
        with atomic_file(path) as file:

            def once() -> None:
                file.seek(0)
                file.truncate()
                store.fetch(item, limit, write)

            def write(piece: bytes) -> None:
                try:
                    file.write(piece)
                except OSError as error:  # of the disk, which no further attempt mends
                    raise storage_error(error, path) from error

            patiently(once, store.settings, store.shown(item.name))
        return path

    def forget_others(self) -> None:
        """Delete what was fetched earlier and was not asked for this time."""
        for path in self._folder.glob("*/*"):
            if path.name not in self._used:
                with suppress(OSError):
                    path.unlink()
