"""Atomic writes: a reader sees the old artifact or the new one, never a half of either.

A file is written under a temporary name in its own folder, flushed to disk, and renamed. A folder is built
beside its final place and renamed whole. After a kill only a `.partial-*` name can remain, which the next
write of the same target removes.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
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
    errno.EEXIST: "A file stands where a folder is needed: move it away.",
    errno.ENOTDIR: "A file stands where a folder is needed: move it away.",
}

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)  # never the fault of the code that wrote


@contextmanager
def explained_storage(path: Path) -> Iterator[None]:
    """Turn an OSError of writing (disk full, read-only, quota) into a StorageError that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FIXES:
            raise
        raise storage_error(error, path) from error


def storage_error(error: OSError, path: object) -> StorageError:
    """What a failed write means; `error.errno` is one of those above."""
    fix = _FIXES[error.errno or errno.ENOSPC]
    return StorageError("writing failed", where=path, found=error.strerror or error, fix=fix)


def _partial(path: Path) -> Path:
    return path.with_name(f".partial-{path.name}")


def _fsync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_file(path: str | Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open `path` for writing under a temporary name; rename it on success, remove it on failure.

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
                os.fsync(file.fileno())
            os.replace(partial, path)
            _fsync_directory(path.parent)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


@contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder; on success it replaces `path` as a whole.

    The temporary folder lies beside `path`, so the rename stays on one file system. What a killed writer
    left under the temporary name is removed first.
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
            if path.exists():
                shutil.rmtree(path)
            os.replace(partial, path)
            _fsync_directory(path.parent)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def dump_json(value: object) -> str:
    """JSON with sorted keys and a final newline: same value, same bytes. NaN and infinity are refused."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: str | Path, value: object) -> None:
    """Write `dump_json(value)` atomically."""
    with atomic_file(path, "w") as file:
        file.write(dump_json(value))
