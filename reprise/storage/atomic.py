"""Atomic writes: a reader sees the old artifact or the new one, never half of either.

A file is written under a temporary name in its own folder, flushed to disk, and renamed. A folder is built beside its
final place and renamed as a whole. After a kill only a `.partial-*` name can remain, and the next write of the same
target removes it.

Several processes and threads may write one file: each has a temporary name of its own, which it keeps locked (flock(2))
until it has renamed it, and the last to end wins. A temporary file that nobody has locked was left by a kill. Folders
have one writer at a time.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from reprise.config.errors import StorageError

_FIXES = {
    errno.ENOSPC: "Free some space on that disk (`dvc gc --workspace` drops old cache entries) and run again.",
    errno.EDQUOT: "Raise the quota or free some space and run again.",
    errno.EFBIG: "Raise the limit on file sizes (`ulimit -f`), or work on a file system that takes larger files.",
    errno.EROFS: "The file system is read-only: mount it writable or work in another folder.",
    errno.EACCES: "Give yourself write permission on that folder (`ls -ld` shows its owner).",
    errno.EPERM: "Give yourself write permission on that folder (`ls -ld` shows its owner).",
    errno.EEXIST: "There is a file where a folder is needed: move it away.",
    errno.ENOTDIR: "There is a file where a folder is needed: move it away.",
}

NO_FLOCK = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)  # of a file system without flock
_before_publishing: list[Callable[[Path], None]] = []


def before_publishing(call: Callable[[Path], None]) -> None:
    """Let `call` have the path of every file and folder that this process writes, before it gets its name.

    Whatever `call` raises, nothing is published.
    """
    _before_publishing.append(call)


def _announce(path: Path) -> None:
    for call in _before_publishing:
        call(path)


@contextmanager
def explained_storage(path: Path) -> Iterator[None]:
    """Turn an OSError of writing (disk full, read-only, quota) into a StorageError that says what to do.

    Args:
        path: what is being written, for the message.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _FIXES:
            raise
        raise storage_error(error, path) from error


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Let an OSError that names no file name this one: of reads and writes, the system does not say where they fail."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def storage_error(error: OSError, path: object) -> StorageError:
    """Make the StorageError of a failed write.

    Args:
        error: without an `errno`, the disk is taken to be full.
        path: what was being written.
    """
    fix = _FIXES.get(error.errno or errno.ENOSPC, "Look at the disk or the network share (`dmesg`), then run again.")
    return StorageError("writing failed", where=path, found=error.strerror or error, fix=fix)


def _partial(path: Path, number: int = 0) -> Path:
    # Beside the target: a rename is atomic on one file system only.
    return path.with_name(f".partial-{path.name}{f'.{number}' if number else ''}")


def _open_partial(path: Path) -> tuple[Path, int]:
    """Make the temporary file of one writer, and lock it; files that killed writers left are removed.

    Returns:
        Its path, and a descriptor that holds the lock until it is closed.
    """
    number = 1
    while os.path.lexists(left := _partial(path, number)):  # of several writers, the first may have ended well
        _remove_left(left)
        number += 1
    number = 0
    while True:
        partial = _partial(path, number)
        try:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            if not _remove_left(partial):
                number += 1
            continue
        if not isinstance(flock_refusal(descriptor), BlockingIOError) and _is_at(descriptor, partial):
            return partial, descriptor
        os.close(descriptor)  # another writer has just taken it for one that was left, before it was locked


def _remove_left(partial: Path) -> bool:
    """Remove a temporary file whose writer has ended, and return whether its name may be free."""
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return True
    except OSError:  # no file of ours
        return False
    try:
        if flock_refusal(descriptor) is not None:  # without locks nobody knows whether its writer lives
            return False
        if _is_at(descriptor, partial):  # else its writer has just renamed it
            partial.unlink(missing_ok=True)
        return True
    finally:
        os.close(descriptor)


def flock_refusal(descriptor: int) -> OSError | None:
    """Lock an open file, without waiting.

    Args:
        descriptor: of the file; the lock ends when it is closed.

    Returns:
        None if the file is locked now; a BlockingIOError if somebody else holds the lock; the system's answer where the
        file system has no locks.

    Raises:
        OSError: anything else went wrong.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if not isinstance(error, BlockingIOError) and error.errno not in NO_FLOCK:
            raise
        return error
    return None


def _is_at(descriptor: int, path: Path) -> bool:
    """Return whether a path is that of an open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _fsync_directory(path: Path) -> None:
    """Flush the entries of a folder: without it a power cut may undo a rename that a reader has already seen."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_file(path: str | Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open `path` for writing under a temporary name; rename it on success, remove it on failure.

    Args:
        path: the file to write; folders above it are made.
        mode: "wb", or "w" for UTF-8 text with \\n at the end of lines.

    Raises:
        StorageError: disk full, read-only or forbidden folder.
    """
    path = Path(path)
    with explained_storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial, descriptor = _open_partial(path)
        encoding, newline = (None, None) if "b" in mode else ("utf-8", "\n")
        try:
            with open(descriptor, mode, encoding=encoding, newline=newline, closefd=False) as file:
                yield file
                with naming(path):
                    file.flush()
                    os.fsync(descriptor)  # before the rename: else the name may outlive a crash without its content
            _announce(path)
            os.replace(partial, path)
            _fsync_directory(path.parent)
        except BaseException:
            if _is_at(descriptor, partial):  # after the rename, the name may be another writer's
                partial.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)


@contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder; on success it replaces `path` as a whole.

    A folder that a killed writer left under the temporary name is removed first.

    Raises:
        StorageError: disk full, read-only or forbidden folder.
    """
    path = Path(path)
    with explained_storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = _partial(path)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            yield partial
            for folder, _, names in os.walk(partial):
                for name in names:
                    with open(os.path.join(folder, name), "rb") as file:
                        os.fsync(file.fileno())
                _fsync_directory(Path(folder))
            _announce(path)
            if path.exists():
                # A rename cannot replace a folder that is not empty. A reader that comes in between finds nothing,
                # which it takes for a missing artifact, and never a half of one.
                shutil.rmtree(path)
            os.replace(partial, path)
            _fsync_directory(path.parent)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def dump_json(value: object) -> str:
    """Return JSON with sorted keys and a final newline, so that equal values give equal bytes.

    Raises:
        ValueError: NaN or infinity, which JSON does not have.
    """
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: str | Path, value: object) -> None:
    """Write `dump_json(value)` atomically."""
    with atomic_file(path, "w") as file:
        file.write(dump_json(value))
