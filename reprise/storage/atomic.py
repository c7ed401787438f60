"""Atomic writes: a reader sees the old artifact or the new one, never half of either.

A file is written under a temporary name in its own folder, flushed to disk, and renamed. A folder is built beside its
final place and renamed as a whole. After a kill only a `.partial-*` name can remain, and the next write of the same
target removes it.
"""

from __future__ import annotations

import errno
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


def storage_error(error: OSError, path: object) -> StorageError:
    """Make the StorageError of a failed write.

    Args:
        error: its `errno` is a key of _FIXES; without one, the disk is taken to be full.
        path: what was being written.
    """
    fix = _FIXES[error.errno or errno.ENOSPC]
    return StorageError("writing failed", where=path, found=error.strerror or error, fix=fix)


def _partial(path: Path) -> Path:
    return path.with_name(f".partial-{path.name}")  # beside the target: a rename is atomic on one file system only


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
        partial = _partial(path)
        try:
            with open(
                partial, mode, encoding=None if "b" in mode else "utf-8", newline=None if "b" in mode else "\n"
            ) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())  # before the rename: else the new name may outlive a crash without its content
            _announce(path)
            os.replace(partial, path)
            _fsync_directory(path.parent)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


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
