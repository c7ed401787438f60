"""Files named by the SHA-256 of their content, in a folder that stays below a bound; several processes may share it.

A file is made under a temporary name that has its full length from the start, checked, flushed, and renamed: it is
there whole or not at all. Those that were used longest ago make room. A file that is removed while it is read stays
readable until it is closed, and what has gone is made again when it is next asked for.

One process makes a file while the others that want it wait (`reprise.storage.locks`); a temporary file whose lock
nobody holds was left by a process that was killed, and is removed by whoever next needs room.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from reprise.storage.atomic import explained_storage, storage_error
from reprise.storage.locks import FileLock, waiting_for

Make = Callable[[IO[bytes]], None]
_PARTIAL, _LOCK = ".partial-", ".lock-"
_TOUCH_SECONDS = 1.0  # between two notes that a file is in use
_ROOM_SECONDS = 0.1  # between two looks for room, while others make files that take all of it


class Bounded:
    """A folder of files.

    Args:
        folder: it is made.
        max_bytes: of all files together, those that are being made included.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder, self.max_bytes = folder, max_bytes
        self._touched: dict[str, float] = {}
        self._mutex = threading.Lock()  # of the threads of this process; processes have locks on files
        self._making: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def __getstate__(self) -> dict[str, object]:
        return {"folder": self.folder, "max_bytes": self.max_bytes}

    def __setstate__(self, state: dict[str, object]) -> None:
        Bounded.__init__(self, **state)  # type: ignore[arg-type]

    def open(self, sha256: str, size: int, make: Make) -> int:
        """Return a descriptor of a file, which is made where it is missing or has another length.

        Args:
            sha256: of its content; its name.
            size: in bytes, at most `max_bytes`.
            make: writes the content into a file of that length, and raises where it is not the right one.
        """
        found = self._present(sha256, size)
        if found is not None:
            return found
        with self._mutex:
            own = self._making[sha256]
        with own:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = self._lock(sha256)
            with waiting_for(lock):
                try:
                    return self._made(sha256, size, make)
                finally:
                    lock.unlink(missing_ok=True)

    def holds(self, sha256: str) -> bool:
        """Return whether a file is there at this moment."""
        return (self.folder / sha256).exists()

    def let_go(self, sha256: str) -> None:
        """Let a file make room before all others, unless it is opened again."""
        self._touched.pop(sha256, None)
        with suppress(OSError):
            os.utime(self.folder / sha256, (0, 0))

    def _present(self, sha256: str, size: int) -> int | None:
        path = self.folder / sha256
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESTALE):
                raise
            return None
        if os.fstat(descriptor).st_size != size:  # another program cut it short
            os.close(descriptor)
            path.unlink(missing_ok=True)
            return None
        now = time.monotonic()
        if now - self._touched.get(sha256, -_TOUCH_SECONDS) >= _TOUCH_SECONDS:
            self._touched[sha256] = now
            with suppress(OSError):
                os.utime(path)  # the time of last use, by which `_make_room` chooses
        return descriptor

    def _made(self, sha256: str, size: int, make: Make) -> int:
        """Make a file whose lock is held, unless another process has made it meanwhile."""
        found = self._present(sha256, size)
        if found is not None:
            return found
        path, partial = self.folder / sha256, self.folder / f"{_PARTIAL}{sha256}"
        try:
            self._reserve(partial, size)
            with explained_storage(path), open(partial, "r+b") as file:
                make(file)
                file.flush()
                os.fdatasync(file.fileno())  # before the rename: else a power cut may leave the name with other bytes
            descriptor = os.open(partial, os.O_RDONLY | os.O_CLOEXEC)  # it stays readable, whoever makes room
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        return descriptor

    def _reserve(self, partial: Path, size: int) -> None:
        """Make an empty file of the full length, once there is room for it."""
        while True:
            with self._mutex, waiting_for(self.folder / ".lock"):
                partial.unlink(missing_ok=True)
                if self._make_room(self.max_bytes - size):
                    self._allocate(partial, size)
                    return
            time.sleep(_ROOM_SECONDS)

    def _make_room(self, allowed: int) -> bool:
        """Remove files until the others take at most `allowed` bytes; return whether they do."""
        used, removable = 0, []
        for entry in os.scandir(self.folder):
            if entry.name.startswith(_LOCK) or entry.name == ".lock":
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # it has just got its name, or went
                continue
            if entry.name.startswith(_PARTIAL):
                if self._abandoned(entry.name.removeprefix(_PARTIAL)):
                    Path(entry.path).unlink(missing_ok=True)
                    continue
            else:
                removable.append((status.st_mtime_ns, status.st_size, entry.path))
            used += status.st_size
        for _, size, path in sorted(removable):
            if used <= allowed:
                break
            Path(path).unlink(missing_ok=True)
            used -= size
        return used <= allowed

    def _abandoned(self, sha256: str) -> bool:
        """Return whether nobody makes a file whose temporary name is there."""
        try:
            return not FileLock(self._lock(sha256)).is_held()
        except OSError:
            return True

    def _allocate(self, partial: Path, size: int) -> None:
        """Reserve the space on the disk; where it has less than the bound allows, other files make room."""
        with explained_storage(partial):
            while True:
                with open(partial, "wb") as file:
                    try:
                        if size:
                            os.posix_fallocate(file.fileno(), 0, size)
                        return
                    except OSError as error:
                        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                            raise
                        full = error
                oldest = self._oldest()
                partial.unlink(missing_ok=True)
                if oldest is None:
                    raise storage_error(full, partial)
                oldest.unlink(missing_ok=True)

    def _oldest(self) -> Path | None:
        files = [path for path in self.folder.iterdir() if not path.name.startswith(".")]
        return min(files, key=lambda path: path.stat().st_mtime_ns, default=None)

    def _lock(self, sha256: str) -> Path:
        return self.folder / f"{_LOCK}{sha256}"
