"""What the source looks like on disk, to see whether anybody changed it while it was taken in.

source.lock.json, on which DVC depends, describes the source before ingest. An image that changes while ingest runs and
then changes back leaves no trace in a second description, but it does in the times that the file system keeps.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from reprise.artifacts.layout import IMAGES, INGEST
from reprise.config.errors import InputsChanged, SourceError, listed, printable
from reprise.storage.listing import LOCK_FILE
from reprise.storage.walk import LEFT_OUT, list_entries, name_text
from stages.ingest.source import Source

_SHOWN = 8
Times = dict[bytes, tuple[int, int, int, int]]  # name -> bytes, modification, change of status, inode


def times_of(source: Source) -> Times:
    """Return size, times and inode of every file that the source may read, behind links that it follows as well.

    What is left out anyway, such as the notes of a file manager, may come and go. A source inside a package has none.
    """
    top = os.fsencode(source.root)
    if (files := source.files()) is not None:
        return {entry.name: _times(entry.path) for entry in files}
    if not source.reads_root or not os.path.isdir(top):
        return {top: _times(top)} if source.reads_root and os.path.isfile(top) else {}
    entries = list_entries(source.root, source.link_roots())
    return {entry.name: _times(entry.path) for entry in entries if entry.reason not in LEFT_OUT}


def _times(path: bytes) -> tuple[int, int, int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return (-1, -1, -1, -1)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def refuse_other_source(source: Source, lock: Path = LOCK_FILE, row: str | None = None) -> None:
    """Stop before anything is read where DVC runs this and the lock file describes another source.

    Args:
        source: as it is now.
        lock: source.lock.json, or the file with a description by row.
        row: of `shifts`, whose description counts; None where the file is one description.

    Raises:
        InputsChanged: it does.
    """
    if "DVC_STAGE" not in os.environ:
        return  # nobody records what this run takes in
    try:
        described = json.loads(lock.read_text(encoding="utf-8"))
        digest = (described if row is None else described[row])["digest"]
    except (OSError, ValueError, KeyError, TypeError):
        digest = None
    if digest != source.extent().digest:
        raise InputsChanged(
            "the source is not the one that is described, and DVC would record the description",
            where=lock,
            found="no description" if digest is None else "another digest of names and contents",
            fix="Run `reprise repro`, which describes the source first; with plain DVC, run "
            "`reprise scan` before `dvc repro`.",
        )


def refuse_changes(source: Source, before: Times) -> None:
    """Stop before anything is published where files of the source changed since `before`.

    Raises:
        InputsChanged: naming some of the files.
    """
    now = times_of(source)
    changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    if changed:
        shown = [printable(name_text(name), 200) for name in changed[:_SHOWN]]
        more = [f"and {len(changed) - _SHOWN:,} more"] if len(changed) > _SHOWN else []
        names = [f"{len(changed):,} files, whose names are not shown"] if source.hides_names else shown + more
        raise InputsChanged(
            "files of the source changed while they were taken in, and nothing is recorded,",
            where=source.root,
            found=listed(names),
            fix="Run `reprise repro` again when nobody writes to them.",
        )


def refuse_own_artifacts(root: Path) -> None:
    """Refuse a root that holds the artifacts: each run would change its own source and take in its own pictures.

    Raises:
        SourceError: it does.
    """
    top, artifacts = os.path.realpath(root), os.path.realpath(INGEST)
    if os.path.commonpath([top, artifacts]) == top:
        raise SourceError(
            "the root of the source holds what the graph itself writes",
            where=root,
            found=f"{INGEST} lies in it",
            fix=f"Put the images into a folder of their own, such as {IMAGES}, and set source.root to that.",
        )
