"""Try whether the remote can be written, read and deleted from, with a small file of a name that nobody else has."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from dvc.exceptions import DvcException
from dvc.fs import HTTPFileSystem, LocalFileSystem, generic
from dvc.repo import Repo
from dvc_objects.fs.local import localfs

TRIED, FAILED, READ_ONLY, ABSENT = 0, 1, 3, 5
_NAME = ".reprise-doctor-"


def try_remote() -> int:
    """Write a file into the default remote, read it back and remove it.

    Returns:
        TRIED; READ_ONLY for a web server, which is asked nothing; ABSENT for a folder that is not there, which a trial
        would make (its disk may not be mounted); FAILED after one line "ERROR: ...".
    """
    try:
        with Repo() as repo:
            odb = repo.cloud.get_remote_odb(None, "push", hash_name="md5-dos2unix")
            if isinstance(odb.fs, HTTPFileSystem):
                return READ_ONLY
            if isinstance(odb.fs, LocalFileSystem) and not odb.fs.exists(odb.path):
                return ABSENT
            _try(odb.fs, odb.fs.join(odb.path, f"{_NAME}{uuid4().hex}"))
    except Exception as error:  # noqa: BLE001 - of whatever library speaks to the remote
        print(f"ERROR: {error or type(error).__name__}", file=sys.stderr, flush=True)
        return FAILED
    return TRIED


def _try(fs: Any, place: str) -> None:
    content = place.encode()
    with TemporaryDirectory() as folder:
        path = Path(folder, "file")
        path.write_bytes(content)
        try:
            generic.copy(localfs, str(path), fs, place)
            with fs.open(place, "rb") as file:
                found = file.read(len(content) + 1)
        except BaseException:
            with suppress(Exception):
                fs.remove(place)
            raise
    fs.remove(place)
    if found != content:
        raise DvcException(f"other bytes came back than were written to {place}")
