"""Keep unfinished work in the remote beside its objects: `checkpoints/<inputs>/<SHA-256>.tar`.

A file is written under its final name only when it is complete, as the stores that DVC knows do it, and it is held
against its name before anybody uses it.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.fs import generic
from dvc.repo import Repo
from dvc_objects.fs.local import LocalFileSystem, localfs

DONE, FAILED = 0, 1
_FOLDER = "checkpoints"
_KEY, _NAME = re.compile(r"[0-9a-f]{64}"), re.compile(r"([0-9a-f]{64})\.tar")
_MOST = 4  # files of one piece of work that are looked at; a kill leaves two


def send_checkpoint(key: str, path: str) -> int:
    """Send a file, and remove the earlier ones of the same work.

    Args:
        key: names the inputs of the work, 64 hexadecimal digits.
        path: the file.
    """

    def send(fs: Any, folder: str) -> None:
        name = f"{_sha256(Path(path))}.tar"
        if not fs.exists(fs.join(folder, name)):
            generic.copy(localfs, path, fs, fs.join(folder, name))
        for other in _files(fs, folder):
            if fs.name(other) != name:
                fs.remove(other)

    return _in_remote(key, send)


def fetch_checkpoints(key: str, target: str) -> int:
    """Fetch the files of some work into a folder; one that is not what its name says is left out, with a line.

    Args:
        key: as for `send_checkpoint`.
        target: the folder; it must exist.
    """

    def fetch(fs: Any, folder: str) -> None:
        for place in _files(fs, folder)[:_MOST]:
            match, here = _NAME.fullmatch(fs.name(place)), Path(target, fs.name(place))
            if match:
                with suppress(FileNotFoundError):  # another worker has just sent a later one in its place
                    generic.copy(fs, place, localfs, str(here))
                if here.exists() and _sha256(here) != match[1]:
                    here.unlink()
                    print(f"refused a checkpoint that is not what its name says: {place}", file=sys.stderr, flush=True)

    return _in_remote(key, fetch)


def drop_checkpoints(key: str) -> int:
    """Remove the files of some work.

    Args:
        key: as for `send_checkpoint`.
    """

    def drop(fs: Any, folder: str) -> None:
        for place in _files(fs, folder):
            fs.remove(place)
        if isinstance(fs, LocalFileSystem):  # others have no folders
            with suppress(OSError):
                os.rmdir(folder)

    return _in_remote(key, drop)


def _in_remote(key: str, act: Callable[[Any, str], None]) -> int:
    try:
        if not _KEY.fullmatch(key):
            raise DvcException(f"'{key}' names no inputs")
        with Repo() as repo:
            odb = repo.cloud.get_remote_odb(None, "push", hash_name="md5-dos2unix")
            act(odb.fs, odb.fs.join(odb.path, _FOLDER, key))
    except (DvcException, OSError) as error:
        print(f"ERROR: failed to share a checkpoint: {error}", file=sys.stderr, flush=True)
        return FAILED
    return DONE


def _files(fs: Any, folder: str) -> list[str]:
    return sorted(fs.find(folder)) if fs.exists(folder) else []


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
