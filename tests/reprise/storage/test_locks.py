"""Locks: one holder at a time, by the socket and by the file; free when the holder ends; either layer alone."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reprise.config.errors import StorageError
from reprise.storage import locks
from reprise.storage.locks import FileLock, waiting_for


def taken(path: Path) -> FileLock:
    lock = FileLock(path)
    assert lock.take()
    return lock


def without_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a system without an abstract namespace, or seen from another container."""
    monkeypatch.setattr(locks, "_socket_name", lambda path: None)


@pytest.mark.parametrize("sockets", [True, False])
def test_one_holder_at_a_time_and_others_see_who(tmp_path, monkeypatch, sockets):
    if not sockets:
        without_sockets(monkeypatch)
    path = tmp_path / "a/lock"
    first = taken(path)
    other = FileLock(path)
    assert first.take()  # again, by its holder
    assert not other.take()
    assert other.is_held()
    assert other.holder().startswith(f"process {os.getpid()}: python ")
    assert taken(tmp_path / "b/lock").path.exists()
    first.release()
    assert not other.is_held()
    assert other.take()


def test_whoever_removes_the_folder_does_not_get_the_lock(tmp_path):
    first, other = taken(tmp_path / "a/lock"), FileLock(tmp_path / "a/lock")
    first.path.unlink()
    first.path.parent.rmdir()
    assert not other.take()
    assert other.holder().startswith(f"process {os.getpid()}: ")  # asked of the socket, since the file is gone
    assert other.is_held()
    first.release()
    assert other.take()


def test_the_name_is_that_of_the_file_whatever_way_leads_to_it(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    taken(tmp_path / "real/lock")
    first = taken(tmp_path / "real/other")
    first.path.unlink()
    assert not FileLock(tmp_path / "link/other").take()


def test_a_file_that_was_removed_before_it_was_locked_is_opened_anew(tmp_path, monkeypatch):
    """Whoever opened the file before it was removed must not hold a lock that nobody else sees."""
    without_sockets(monkeypatch)
    flock, times = fcntl.flock, []

    def late(descriptor, how):
        if not times:
            (tmp_path / "lock").unlink()
        times.append(descriptor)
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    lock = taken(tmp_path / "lock")
    assert len(times) == 2
    assert (tmp_path / "lock").read_text() == lock.holder()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_flock(tmp_path, monkeypatch, capsys, code):
    def refuse(descriptor, how):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(locks, "_noted", [])
    first = taken(tmp_path / "lock")
    assert first.this_machine_only
    assert not FileLock(tmp_path / "lock").take()
    assert FileLock(tmp_path / "lock").is_held()
    with waiting_for(tmp_path / "another"):
        pass
    said = capsys.readouterr().err
    assert said.count("lies on a file system without locks") == 1
    without_sockets(monkeypatch)
    with pytest.raises(StorageError, match=r"has no locks.*Mount it with locks"):
        FileLock(tmp_path / "lock").take()


_HOLD = """
import os, sys
from pathlib import Path
from reprise.storage.locks import FileLock
assert FileLock(Path(sys.argv[1])).take()
"""


def test_a_killed_holder_frees_it(tmp_path, repository):
    code = "lock = None\n" + _HOLD.replace("assert ", "lock = ").replace(".take()", "; lock.take()")
    code += "print('in', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "lock")],
        env={"PYTHONPATH": str(repository)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout.readline() == b"in\n"
    assert not FileLock(tmp_path / "lock").take()
    holder.kill()
    holder.communicate()
    assert FileLock(tmp_path / "lock").take()
