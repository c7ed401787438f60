"""Say in a sentence what the operating system refuses: permissions, full disks, too many open files, ..."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import NamedTuple

from reprise.config.errors import StorageError


class _Refusal(NamedTuple):
    what: str
    fix: str


_SPACE = "Free some space on that disk (`dvc gc --workspace` drops old cache entries) and run again."
_PERMISSION = "Give yourself permission: `ls -ld` shows the owner of the file and of the folders above it."
_REFUSALS = {
    errno.ENOSPC: _Refusal("the disk is full", _SPACE),
    errno.EDQUOT: _Refusal("the disk quota is used up", "Raise the quota or free some space and run again."),
    errno.EFBIG: _Refusal(
        "a file is too large here",
        "Raise the limit on file sizes (`ulimit -f`), or work on a file system that takes larger files.",
    ),
    errno.EROFS: _Refusal("the file system is read-only", "Mount it writable, or work in another folder."),
    errno.EACCES: _Refusal("this process has no permission", _PERMISSION),
    errno.EPERM: _Refusal("this process has no permission", _PERMISSION),
    errno.EMFILE: _Refusal("this process has too many open files", "Raise the limit (`ulimit -n 4096`) and run again."),
    errno.ENFILE: _Refusal("too many files are open on this machine", "Close other programs and run again."),
    errno.ENOMEM: _Refusal("the system has no memory left", "Close other programs, or ask for less at once."),
    errno.EAGAIN: _Refusal("the system starts no further process", "Close other programs, or raise `ulimit -u`."),
    errno.EIO: _Refusal("the disk reports an error", "Look into the system's log (`dmesg`), and check the disk."),
    errno.ESTALE: _Refusal("the file system lost this file", "A network drive was remounted: enter the folder again."),
    errno.ENAMETOOLONG: _Refusal("a name is too long for the file system", "Work in a folder with a shorter path."),
}  # fmt: skip


def refusal(error: OSError) -> StorageError | None:
    """Return the sentence for an error that the system caused, or None if the error may be a defect of the program."""
    known = _REFUSALS.get(error.errno or 0)
    if known is None or isinstance(error, TimeoutError):
        return None
    paths = [str(path) for path in (error.filename, error.filename2) if path is not None]
    return StorageError(
        known.what,
        where=" -> ".join(paths) or _here(),
        found=error.strerror or os.strerror(error.errno or 0),
        fix=known.fix,
    )


def _here() -> str:
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        return "a folder that was removed"
