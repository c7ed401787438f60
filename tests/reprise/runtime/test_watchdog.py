"""A process under the watchdog ends with its parent, with the DVC behind a shell, and even inside a long call."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from reprise.runtime import watchdog

_STAGE = """
import os, pathlib, signal, sys, time
sys.path.insert(0, {repository!r})
from reprise.runtime import watchdog
watchdog.EVERY_SECONDS, watchdog.GRACE_SECONDS = 0.05, 0.5
if {deaf}:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
watchdog.watch_parents()
pathlib.Path("stage.pid").write_text(str(os.getpid()))
time.sleep(60)
"""
# Stands for DVC: starts a shell that stays between itself and the command, as dash does.
_DVC = "import subprocess, sys; subprocess.run(['/bin/sh', '-c', sys.argv[1] + '; true'])"


def wait_for(what: Callable[[], bool], seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while not what() and time.monotonic() < end:
        time.sleep(0.02)
    return what()


def pid_in(folder: Path) -> int:
    assert wait_for(lambda: (folder / "stage.pid").exists() and (folder / "stage.pid").read_text() != "")
    return int((folder / "stage.pid").read_text())


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("deaf", [False, True])
def test_it_follows_a_killed_dvc_through_a_shell_that_lives_on(tmp_path: Path, repository: Path, deaf: bool) -> None:
    script = tmp_path / "stage.py"
    script.write_text(_STAGE.format(repository=str(repository), deaf=deaf))
    dvc = subprocess.Popen(
        [sys.executable, "-c", _DVC, f"{sys.executable} {script}"],
        cwd=tmp_path,
        env={**os.environ, "DVC_STAGE": "x"},
        start_new_session=True,
    )
    stage = pid_in(tmp_path)
    try:
        shell = psutil.Process(stage).ppid()
        assert shell != dvc.pid
        dvc.send_signal(signal.SIGKILL)
        dvc.wait(timeout=20)
        assert wait_for(lambda: gone(stage))
        assert wait_for(lambda: gone(shell))
    finally:
        if not gone(stage):
            os.kill(stage, signal.SIGKILL)


def test_it_follows_its_parent(tmp_path: Path, repository: Path) -> None:
    script = tmp_path / "stage.py"
    script.write_text(_STAGE.format(repository=str(repository), deaf=False))
    code = "import subprocess, sys; subprocess.run([sys.executable, sys.argv[1]])"
    parent = subprocess.Popen([sys.executable, "-c", code, str(script)], cwd=tmp_path)
    stage = pid_in(tmp_path)
    parent.kill()
    parent.wait(timeout=20)
    assert wait_for(lambda: gone(stage))


def test_it_leaves_a_process_alone_whose_parents_live(tmp_path: Path, repository: Path) -> None:
    script = tmp_path / "stage.py"
    script.write_text(_STAGE.format(repository=str(repository), deaf=False))
    command = ["/bin/sh", "-c", f"{sys.executable} {script}; true"]
    shell = subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "DVC_STAGE": "x"})
    stage = pid_in(tmp_path)
    time.sleep(0.5)
    assert not gone(stage)
    os.kill(stage, signal.SIGKILL)
    shell.wait(timeout=20)


def test_an_orphan_from_the_start_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC was killed before the command had begun: init is its parent already."""
    monkeypatch.setenv("DVC_STAGE", "x")
    monkeypatch.setattr(os, "getppid", lambda: 1)
    monkeypatch.setattr(os, "getpgid", lambda pid: 1)
    monkeypatch.setattr(os, "getpgrp", lambda: 4711)
    assert watchdog.parents() == []
    monkeypatch.setattr(os, "getpgrp", lambda: 1)  # DVC itself is the first process of a container
    assert watchdog.parents() == [1]
    monkeypatch.delenv("DVC_STAGE")  # started by hand
    monkeypatch.setattr(os, "getpgrp", lambda: 4711)
    assert watchdog.parents() == [1]
