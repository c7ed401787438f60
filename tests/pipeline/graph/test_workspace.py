"""The run lock of a folder and DVC's own: removed folders, file systems without locks, DVC's hard links."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from pathlib import Path

import flufl.lock
import pytest

from pipeline.graph import workspace
from pipeline.graph.workspace import exclusive, hold_dvc_lock, repair_workspace
from reprise.config.errors import GraphError, WorkspaceBusyError
from tests.pipeline.dvc_project import Project

_NO_FLOCK = """
import errno, fcntl
def refuse(descriptor, how):
    raise OSError(errno.ENOLCK, "No locks available")
fcntl.flock = refuse
"""
_SETTINGS = "[core]\n    hardlink_lock = true  # this file system has no locks\n"


def run_lock(root: Path, wait: bool = False) -> None:
    with exclusive(root, wait=wait, say=lambda line: None):
        pass


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def no_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_removing_the_folder_of_the_run_lock_does_not_free_it(folder: Path) -> None:
    with exclusive(folder, wait=False, say=print):
        shutil.rmtree(folder / ".reprise")
        with pytest.raises(WorkspaceBusyError, match=rf"another run works in this folder.*process {os.getpid()}: "):
            run_lock(folder)
    run_lock(folder)


def test_without_locks_the_sentence_says_which_setting_dvc_needs(folder: Path, no_flock: None) -> None:
    with pytest.raises(GraphError, match=r"has no locks.*flock: No locks available.*core\.hardlink_lock true"):
        run_lock(folder)


def test_with_that_setting_one_run_at_a_time_works_there(folder: Path, no_flock: None) -> None:
    (folder / ".dvc/config.local").write_text(_SETTINGS)
    with exclusive(folder, wait=False, say=print):
        repair_workspace(folder, print)
        with pytest.raises(WorkspaceBusyError, match="another run works in this folder"):
            run_lock(folder)


def test_dvcs_lock_of_hard_links_is_taken_as_dvc_takes_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".dvc/config.local").write_text(_SETTINGS)
    monkeypatch.setattr(workspace, "_PATIENCE_SECONDS", 0)
    from dvc.lock import make_lock

    of_dvc = make_lock(str(folder / ".dvc/tmp/lock"), tmp_dir=str(folder / ".dvc/tmp"), hardlink_lock=True)
    of_dvc.lock()
    with (
        pytest.raises(WorkspaceBusyError, match=r"DVC's lock is taken.*outlives a DVC that was killed"),
        hold_dvc_lock(folder),
    ):
        pass
    of_dvc.unlock()
    with hold_dvc_lock(folder), pytest.raises(flufl.lock.TimeOutError):
        flufl.lock.Lock(str(folder / ".dvc/tmp/lock")).lock(timeout=0)
    with of_dvc:
        pass


@pytest.mark.slow
def test_the_graph_runs_on_a_file_system_without_locks(toy: Project, tmp_path: Path, repository: Path) -> None:
    (tmp_path / "patched").mkdir()
    (tmp_path / "patched/sitecustomize.py").write_text(_NO_FLOCK)
    paths = f"{tmp_path / 'patched'}{os.pathsep}{repository}"
    refused = toy.reprise("repro", check=False, PYTHONPATH=paths)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: the file system has no locks")
    toy.write(".dvc/config.local", _SETTINGS)
    done = toy.reprise("repro", PYTHONPATH=paths)
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stderr.count("lies on a file system without locks") == 1
    assert len(toy.ran()) == 6
    toy.reprise("repro", PYTHONPATH=paths)
    assert toy.ran() == []
