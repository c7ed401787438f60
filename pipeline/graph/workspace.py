"""Allow one run at a time in a folder, and repair what a killed DVC left there."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline.graph.lock_file import set_aside_unreadable_lock
from pipeline.graph.previous_outputs import put_back
from pipeline.processes.commands import is_running
from pipeline.processes.dvc_settings import dvc_setting
from reprise.config.errors import GraphError, WorkspaceBusyError
from reprise.storage.atomic import NO_FLOCK, atomic_file, explained_storage
from reprise.storage.locks import FileLock
from reprise.storage.running import FOLDER, announced

STATE = Path(".reprise")
SWEEPS = STATE / "sweeps"  # a clone of the project for each point (pipeline/sweeps/clone.py)
RUN_LOCK = STATE / "repro.lock"
DVC_LOCK = Path(".dvc/tmp/lock")  # held by DVC except while a stage's command runs: dvc/lock.py
RWLOCK = Path(".dvc/tmp/rwlock")  # the process numbers of readers and writers of each path: dvc/rwlock.py
_POLL_SECONDS = 0.2  # short, because signals are handled between two attempts
_HARD_LINK_SECONDS = 300
_PATIENCE_SECONDS = 60
Say = Callable[[str], None]
_held: list[Path] = []  # folders whose run lock this process holds


@contextmanager
def exclusive(root: Path, *, wait: bool, say: Say, announce: bool = True) -> Iterator[None]:
    """Hold the folder's run lock, which the system releases however this process ends.

    Args:
        root: the project folder.
        wait: whether to wait for another run instead of giving up.
        say: prints a line for people.
        announce: whether `reprise status` shows this process.

    Raises:
        WorkspaceBusyError: another run holds the lock and `wait` is false.
        GraphError: the file system has no locks, and DVC is not set up for that.
    """
    require_dvc_lock(root)
    lock = FileLock(root / RUN_LOCK)
    try:
        if not lock.take():
            if not wait:
                raise WorkspaceBusyError(
                    "another run works in this folder",
                    where=lock.path,
                    found=lock.holder(),
                    fix="Wait until it ends, or let this run wait for it: `reprise repro --wait`.",
                )
            say(f"waiting for another run in this folder: {lock.holder()}")
            while not lock.take():
                time.sleep(_POLL_SECONDS)
        with announced(title_of(sys.orig_argv), "command", root / FOLDER) if announce else nullcontext():
            _held.append(root.resolve())
            try:
                yield
            finally:
                _held.remove(root.resolve())
    finally:
        lock.release()


def holds(root: Path) -> bool:
    """Return whether this process holds the folder's run lock."""
    return root.resolve() in _held


def title_of(command: Sequence[str]) -> str:
    """Name the command that this process runs: "reprise repro --wait".

    Args:
        command: the command line with the interpreter, as in sys.orig_argv.
    """
    words = list(command[1:])
    while words and words[0].startswith("-") and words[0] not in ("-c", "-m"):
        del words[0]
    if words[:1] == ["-c"]:
        words = ["reprise", *words[2:]] if "pipeline.cli" in words[1] else ["python", "-c", "...", *words[2:]]
    elif words[:1] != ["-m"] and words:
        words[0] = Path(words[0]).name
    else:
        words.insert(0, "python")
    return shlex.join(words)


def require_dvc_lock(root: Path) -> None:
    """Check that DVC can take its lock, because where the file system has no flock it would wait for ever in silence.

    Raises:
        GraphError: the file system has no flock, and DVC's settings do not say `core.hardlink_lock`.
    """
    folder = root / DVC_LOCK.parent.parent
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # no DVC here: it says so itself
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in NO_FLOCK and not uses_hard_links(root):
            raise GraphError(
                "the file system has no locks, and DVC is not set up for that",
                where=folder,
                found=f"flock: {error.strerror}",
                fix="Let DVC lock with hard links: `dvc config --local core.hardlink_lock true`.",
            ) from error
    finally:
        os.close(descriptor)


def uses_hard_links(root: Path) -> bool:
    """Return whether DVC's settings let it lock with hard links (`core.hardlink_lock`)."""
    return str(dvc_setting(root, os.environ, "core", "hardlink_lock")).lower() == "true"


@contextmanager
def hold_dvc_lock(root: Path) -> Iterator[None]:
    """Wait for DVC's own lock and hold it, so that no DVC process writes dvc.lock or its notes meanwhile.

    Raises:
        WorkspaceBusyError: DVC locks with hard links, which outlive a killed DVC, and the lock does not become free.
    """
    path = root / DVC_LOCK
    with explained_storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    if uses_hard_links(root):
        with _hold_hard_link(path):
            yield
        return
    with explained_storage(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _hold_hard_link(path: Path) -> Iterator[None]:
    import flufl.lock

    # DVC takes it for a year; ours is broken by others after its short life, should this process be killed.
    lock = flufl.lock.Lock(str(path), lifetime=_HARD_LINK_SECONDS)
    try:
        lock.lock(timeout=_PATIENCE_SECONDS)
    except flufl.lock.TimeOutError as error:
        since = datetime.fromtimestamp(path.stat().st_ctime).astimezone().isoformat(timespec="seconds")
        raise WorkspaceBusyError(
            "DVC's lock is taken",
            where=path,
            found=f"a hard link (core.hardlink_lock), made {since}",
            fix="Wait for the DVC that holds it. Such a lock outlives a DVC that was killed: once no DVC works in this"
            " folder on any machine, remove the file.",
        ) from error
    try:
        yield
    finally:
        lock.unlock(unconditionally=True)


def read_digest(path: Path) -> Any:
    """Return the digest that was recorded in a JSON file of .reprise, or None if it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))["digest"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def repair_workspace(root: Path, say: Say) -> None:
    """Repair what a kill may have left: an unreadable dvc.lock, DVC's notes about dead processes, outputs set aside.

    Raises:
        WorkspaceBusyError: a DVC that somebody else started works on files of this folder.
    """
    with hold_dvc_lock(root):
        aside = set_aside_unreadable_lock(root)
        if aside:
            say(f"dvc.lock was unreadable and is now {aside.name}; results are restored from DVC's run cache")
        _clear_dead_owners(root / RWLOCK, say)
        put_back(root, say)


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
        _refuse_living(path, writers, readers)
        return
    kept_writers = {name: owner for name, owner in writers.items() if owner["pid"] in alive}
    kept_readers = {name: [o for o in each if o["pid"] in alive] for name, each in readers.items()}
    with atomic_file(path, "w") as file:
        json.dump({"write": kept_writers, "read": {k: v for k, v in kept_readers.items() if v}}, file)
    dead = ", ".join(str(pid) for pid in sorted(pids - alive))
    say(f"removed stale locks of processes that have ended ({dead})")
    _refuse_living(path, kept_writers, kept_readers)


def _refuse_living(path: Path, writers: Mapping[str, Any], readers: Mapping[str, list[Any]]) -> None:
    """Stop before DVC does, which would tell people to remove its lock by hand.

    Raises:
        WorkspaceBusyError: a DVC works on files of this folder.
    """
    owners = {owner["pid"]: owner for owner in [*writers.values(), *(o for each in readers.values() for o in each)]}
    if owners:
        raise WorkspaceBusyError(
            "another DVC works in this folder",
            where=path,
            found=", ".join(f"process {pid}: {owner.get('cmd', 'dvc')}" for pid, owner in sorted(owners.items())),
            fix="Wait until it ends, and run again.",
        )
