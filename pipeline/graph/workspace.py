"""Allow one run at a time in a folder, and repair what a killed DVC left there."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.graph.lock_file import set_aside_unreadable_lock
from pipeline.processes.commands import is_running
from reprise.config.errors import WorkspaceBusyError
from reprise.storage.atomic import atomic_file, explained_storage

STATE = Path(".reprise")
RUN_LOCK = STATE / "repro.lock"
DVC_LOCK = Path(".dvc/tmp/lock")  # held by DVC except while a stage's command runs: dvc/lock.py
RWLOCK = Path(".dvc/tmp/rwlock")  # the process numbers of readers and writers of each path: dvc/rwlock.py
Say = Callable[[str], None]


@contextmanager
def exclusive(root: Path, *, wait: bool, say: Say) -> Iterator[None]:
    """Hold the folder's run lock, which the kernel releases however this process ends.

    Args:
        root: the project folder.
        wait: whether to wait for another run instead of giving up.
        say: prints a line for people.

    Raises:
        WorkspaceBusyError: another run holds the lock and `wait` is false.
    """
    path = root / RUN_LOCK
    with explained_storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = (
                os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip() or "a process that has just started"
            )
            if not wait:
                raise WorkspaceBusyError(
                    "another run works in this folder",
                    where=path,
                    found=holder,
                    fix="Wait until it ends, or let this run wait for it: `reprise repro --wait`.",
                ) from error
            say(f"waiting for another run in this folder: {holder}")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def hold_dvc_lock(root: Path) -> Iterator[None]:
    """Wait for DVC's own lock and hold it, so that no DVC process writes dvc.lock or its notes meanwhile."""
    path = root / DVC_LOCK
    with explained_storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def read_digest(path: Path) -> Any:
    """Return the digest that was recorded in a JSON file of .reprise, or None if it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))["digest"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def repair_workspace(root: Path, say: Say) -> None:
    """Repair what a kill may have left: an unreadable dvc.lock, and DVC's notes about dead processes."""
    with hold_dvc_lock(root):
        aside = set_aside_unreadable_lock(root)
        if aside:
            say(f"dvc.lock was unreadable and is now {aside.name}; results are restored from DVC's run cache")
        _clear_dead_owners(root / RWLOCK, say)


def _clear_dead_owners(path: Path, say: Say) -> None:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return
    try:
        notes = json.loads(text)
        writers = dict(notes.get("write", {}))
        readers = {name: list(owners) for name, owners in notes.get("read", {}).items()}
        pids = {owner["pid"] for owner in [*writers.values(), *(o for each in readers.values() for o in each)]}
        alive = {pid for pid in pids if is_running(int(pid), "dvc")}
    except (ValueError, TypeError, KeyError, AttributeError):
        path.unlink()
        say(f"DVC's {path.name} was unreadable after a kill and has been removed")
        return
    if alive == pids:
        return
    kept_writers = {name: owner for name, owner in writers.items() if owner["pid"] in alive}
    kept_readers = {name: [o for o in each if o["pid"] in alive] for name, each in readers.items()}
    with atomic_file(path, "w") as file:
        json.dump({"write": kept_writers, "read": {k: v for k, v in kept_readers.items() if v}}, file)
    dead = ", ".join(str(pid) for pid in sorted(pids - alive))
    say(f"removed stale locks of processes that have ended ({dead})")
