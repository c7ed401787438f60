"""The processes of a command end together: signals, leftovers, death of the parent. No test waits for a sleeper."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from pipeline.processes import commands
from pipeline.processes.commands import CommandFailed, capture, environment, is_running, run
from tests.pipeline.dvc_project import wait_for

# Starts a child, writes both PIDs, then both sleep; with "deaf" they ignore the polite signals.
_FAMILY = """
import os, pathlib, signal, subprocess, sys, time
if "deaf" in sys.argv:
    for s in (signal.SIGINT, signal.SIGTERM): signal.signal(s, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
pathlib.Path("pids.part").write_text(f"{os.getpid()} {child.pid}")
os.rename("pids.part", "pids")
if "leave" not in sys.argv: time.sleep(300)
"""


def pids(folder: Path) -> list[int]:
    wait_for((folder / "pids").exists, 15, 0.02)
    return [int(word) for word in (folder / "pids").read_text().split()]


def test_status_and_lines() -> None:
    lines: list[str] = []
    assert run([sys.executable, "-c", "print('one'); print('two'); raise SystemExit(7)"], on_line=lines.append) == 7
    assert lines == ["one", "two"]


def test_lines_keep_their_order_and_come_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    lines: list[str] = []
    code = "import sys, time; print('first'); sys.stderr.write('error: second\\n'); print('third'); time.sleep(300)"
    stop = threading.Event()

    def on_line(line: str) -> None:
        lines.append(line)
        if len(lines) == 3:
            stop.set()  # a line that is held back would keep this from ever ending

    run([sys.executable, "-c", code], on_line=on_line, cancelled=stop)
    assert lines == ["first", "error: second", "third"]


def test_death_by_signal_is_reported_as_shells_do() -> None:
    assert run([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]) == 137


def test_arguments_never_pass_through_a_shell(tmp_path: Path) -> None:
    lines: list[str] = []
    hostile = f"$(touch {tmp_path}/made); `touch {tmp_path}/made`\n"
    run([sys.executable, "-c", "import sys; print(repr(sys.argv[1]))", hostile], on_line=lines.append)
    assert lines == [repr(hostile)]
    assert not (tmp_path / "made").exists()


def test_processes_left_after_the_end_are_killed(tmp_path: Path) -> None:
    assert run([sys.executable, "-c", _FAMILY, "leave"], cwd=tmp_path) == 0
    assert not any(is_running(pid) for pid in pids(tmp_path))


@pytest.mark.parametrize("mode", ["polite", "deaf"])
def test_cancel_ends_the_whole_family(tmp_path: Path, mode: str) -> None:
    cancelled = threading.Event()
    threading.Thread(target=lambda: (pids(tmp_path), cancelled.set()), daemon=True).start()
    began = time.monotonic()
    status = run([sys.executable, "-c", _FAMILY, mode], cwd=tmp_path, cancelled=cancelled, grace=1.0)
    assert status == (128 + signal.SIGTERM if mode == "polite" else 128 + signal.SIGKILL)
    assert time.monotonic() - began < 15
    assert not any(is_running(pid) for pid in pids(tmp_path))


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_reach_everything(tmp_path: Path, repository: Path, signum: int, status: int) -> None:
    code = (
        "import sys\nfrom pipeline.processes.commands import run\n"
        f"try: run([sys.executable, '-c', {_FAMILY!r}])\nexcept KeyboardInterrupt: sys.exit(130)"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**environment(), "PYTHONPATH": str(repository)},
        stderr=subprocess.DEVNULL,
    )
    family = pids(tmp_path)
    starter.send_signal(signum)
    assert starter.wait(timeout=20) == status
    assert not any(is_running(pid) for pid in family)


def test_the_command_ends_when_its_starter_is_killed(tmp_path: Path, repository: Path) -> None:
    code = f"import sys\nfrom pipeline.processes.commands import run\nrun([sys.executable, '-c', {_FAMILY!r}])"
    starter = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env={**environment(), "PYTHONPATH": str(repository)}
    )
    parent, child = pids(tmp_path)
    starter.kill()
    starter.wait(timeout=20)
    wait_for(lambda: not is_running(parent), 15, 0.02)
    psutil.Process(child).kill()  # a stage asks for the same signal itself; this stand-in does not


def test_capture_keeps_the_output_of_a_failing_command() -> None:
    with pytest.raises(CommandFailed) as caught:
        capture([sys.executable, "-c", "import sys; sys.exit('no such thing')"])
    assert caught.value.lines == ("no such thing",)
    assert caught.value.status == 1


def test_this_python_comes_first_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.setenv("SHELL", "/usr/bin/fish")
    assert environment()["PATH"].split(os.pathsep) == [str(Path(sys.executable).parent), "/usr/bin"]
    assert environment()["SHELL"] == "/bin/sh"


def test_a_word_in_the_command_line_tells_processes_apart() -> None:
    assert is_running(os.getpid())
    assert not is_running(os.getpid(), "no such word in it")
    assert not is_running(2**22 + 1)
    assert commands.GRACE_SECONDS > 30  # torchrun's own grace
