"""Hash files as DVC names them (MD5), in threads, and remember the hashes of files that did not change since.

A hash is remembered with the device, inode, size, and the times of the last change of content and of inode. The last of
these is set by the kernel at every write and cannot be set back, so bytes that were altered under their old size and
modification time are read again. DVC's own notes leave it out.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, suppress
from pathlib import Path

DIR = ".dir"  # how DVC ends the name of a folder: the MD5 of the listing of its files
REMEMBERED = Path(".reprise/hashes.sqlite")
_BLOCK = 1 << 20  # bytes that a thread holds at a time
_RACY_NS = 1_000_000_000  # nanoseconds; a file as young as this may change again under the same times
_SMALL = 8 << 20  # bytes
_THREADS = 8
_AHEAD = 256  # files handed to the threads at a time
OnBytes = Callable[[int], None]


class IrregularFile(OSError):
    """A pipe, device, socket, folder or symbolic link lies where a file should."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(errno.EINVAL, "not a regular file", str(path))


def open_regular(path: str | Path, *, follow: bool = True) -> int:
    """Open a regular file for reading and return its descriptor; a pipe or device is refused and does not block.

    Args:
        path: the file.
        follow: whether a symbolic link may lead to it.

    Raises:
        IrregularFile: anything but a regular file.
        OSError: it cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise IrregularFile(path) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise IrregularFile(path)
    return descriptor


def read_regular(path: str | Path, limit: int, *, follow: bool = True) -> bytes:
    """Return at most `limit` bytes of a regular file.

    Args:
        path: the file.
        limit: number of bytes.
        follow: whether a symbolic link may lead to it.

    Raises:
        IrregularFile: anything but a regular file.
        OSError: it cannot be read.
    """
    with open(open_regular(path, follow=follow), "rb") as file:
        return file.read(limit)


def md5_of_file(path: str | Path, *, follow: bool = True, on_bytes: OnBytes = lambda count: None) -> str:
    """Return the MD5 of a regular file.

    Args:
        path: the file.
        follow: whether a symbolic link may lead to it.
        on_bytes: called with the number of bytes after each block.

    Raises:
        IrregularFile: anything but a regular file.
        OSError: it cannot be read.
    """
    total = hashlib.md5(usedforsecurity=False)
    with open(open_regular(path, follow=follow), "rb", buffering=0) as file:
        while block := file.read(_BLOCK):
            total.update(block)
            on_bytes(len(block))
    return total.hexdigest()


def md5_of_small_file(path: str | Path) -> str | None:
    """Return the MD5 of a file of at most 8 MiB: no result of a stage, but what people and `check` write.

    Returns:
        None for folders, for larger files, and where nothing can be read.
    """
    file = Path(path)
    try:
        return md5_of_file(file) if file.is_file() and file.stat().st_size <= _SMALL else None
    except OSError:
        return None


def listing_bytes(members: Mapping[str, str]) -> bytes:
    """Return the listing that DVC would write for a folder.

    Args:
        members: name of each file below the folder -> its MD5.
    """
    return json.dumps([{"md5": members[name], "relpath": name} for name in sorted(members)], sort_keys=True).encode()


def md5_of_members(members: Mapping[str, str]) -> str:
    """Return the name of the listing that DVC would write for a folder.

    Args:
        members: name of each file below the folder -> its MD5.
    """
    return hashlib.md5(listing_bytes(members), usedforsecurity=False).hexdigest() + DIR


def _stamp(status: os.stat_result) -> str:
    return f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}"


class ContentHashes:
    """Hashes of files; those of files that did not change are remembered between processes.

    The record is a database that only saves time: where it cannot be read or written, files are hashed again.
    """

    def __init__(self, record: Path | None = REMEMBERED) -> None:
        """Open the record.

        Args:
            record: the database, or None to hash every file anew and remember nothing.
        """
        self._record = record
        self._lock = threading.Lock()

    def md5s(
        self, paths: Iterable[str], *, follow: bool = True, on_bytes: OnBytes = lambda count: None
    ) -> dict[str, str | OSError]:
        """Hash files in threads.

        Args:
            paths: the files.
            follow: whether symbolic links may lead to them.
            on_bytes: called with the number of bytes after each block, from any thread.

        Returns:
            path -> its MD5, or the error for which it cannot be read.
        """
        result: dict[str, str | OSError] = {}
        stamps: dict[str, str] = {}
        for path in dict.fromkeys(paths):
            try:
                status = os.stat(path, follow_symlinks=follow)
            except OSError as error:
                result[path] = error
                continue
            stamps[path] = _stamp(status)
        known = self._recall(stamps)
        result |= known
        waiting = [path for path in stamps if path not in known]
        fresh: dict[str, tuple[str, str]] = {}

        def compute(path: str) -> None:
            try:
                began = time.time_ns()
                before = os.stat(path, follow_symlinks=follow)
                result[path] = md5 = md5_of_file(path, follow=follow, on_bytes=on_bytes)
                after = os.stat(path, follow_symlinks=follow)
                if _stamp(before) == _stamp(after) and began - after.st_ctime_ns > _RACY_NS:
                    fresh[path] = _stamp(after), md5
            except OSError as error:
                result[path] = error

        _in_threads(compute, waiting)
        self._remember(fresh)
        return result

    def _recall(self, stamps: dict[str, str]) -> dict[str, str]:
        known: dict[str, str] = {}
        if self._record is None or not stamps or not self._record.exists():
            return known
        query = "SELECT stamp, md5 FROM hashes WHERE path = ?"
        with suppress(sqlite3.Error, OSError), self._lock, closing(sqlite3.connect(self._record, timeout=10)) as found:
            for path, stamp in stamps.items():
                row = found.execute(query, (os.path.abspath(path),)).fetchone()
                if row and row[0] == stamp and isinstance(row[1], str):
                    known[path] = row[1]
        return known

    def _remember(self, fresh: dict[str, tuple[str, str]]) -> None:
        if self._record is None or not fresh:
            return
        rows = [(os.path.abspath(path), stamp, md5) for path, (stamp, md5) in fresh.items()]
        with suppress(sqlite3.Error, OSError), self._lock:
            self._record.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self._record, timeout=10)) as database, database:
                database.execute("CREATE TABLE IF NOT EXISTS hashes (path TEXT PRIMARY KEY, stamp TEXT, md5 TEXT)")
                database.executemany("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?)", rows)


def _in_threads(compute: Callable[[str], None], paths: list[str]) -> None:
    """Call `compute` with each path; few calls wait at a time, so that a million paths need little memory."""
    if len(paths) < 2:
        for path in paths:
            compute(path)
        return
    with ThreadPoolExecutor(min(_THREADS, len(os.sched_getaffinity(0)))) as pool:
        running: set[Future[None]] = set()
        for path in paths:
            running.add(pool.submit(compute, path))
            if len(running) >= _AHEAD:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
        for future in running:
            future.result()
