"""Commands as processes that can be ended whole: own session, signals forwarded to all of it, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import psutil

from reprise.config import telemetry

GRACE_SECONDS = 45.0  # torchrun gives its ranks 30
PARENT_DEATH = Path(__file__).with_name("parent_death.py")
Family = dict[int, psutil.Process]  # by process number
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class CommandFailed(Exception):
    """A process that was started ended with an error, which it has explained on its own output.

    Attributes:
        status: its exit status; 128 + n after signal n.
        lines: the last lines it wrote, when they were captured.
    """

    def __init__(self, command: Sequence[str], status: int, lines: Sequence[str] = ()) -> None:
        self.command, self.status, self.lines = tuple(command), status, tuple(lines)
        super().__init__(f"{' '.join(command)} ended with status {status}")


def environment() -> dict[str, str]:
    """This process's environment with its own Python first on PATH, no telemetry, and the plain shell for DVC.

    Nothing is held back in a pipe (PYTHONUNBUFFERED): lines come as they are written, an error after what led to it.
    """
    here = str(Path(sys.executable).parent)
    path = os.environ.get("PATH", os.defpath)
    parts = [here, *(part for part in path.split(os.pathsep) if part != here)]
    return {**os.environ, **telemetry.OFF, "PATH": os.pathsep.join(parts), "SHELL": "/bin/sh", "PYTHONUNBUFFERED": "1"}


def run(
    command: Sequence[str],
    *,
    on_line: Callable[[str], None] | None = None,
    cancelled: threading.Event | None = None,
    cwd: Path | None = None,
    grace: float = GRACE_SECONDS,
) -> int:
    """Run `command` to its end; SIGINT, SIGTERM and SIGHUP that arrive meanwhile go to all of its processes.

    What is left of it `grace` seconds after a signal, or after its own end, is killed. It also gets SIGTERM
    when this process dies without a word.

    Args:
        on_line: called with each line that the command writes, from another thread; without it the command
            writes to this process's own output.
        cancelled: set from another thread to end the command as SIGTERM would.

    Returns:
        The exit status, 128 + n when signal n ended it.

    Raises:
        KeyboardInterrupt: after SIGINT, once everything has ended.
        SystemExit: after SIGTERM or SIGHUP, likewise.
        BaseException: what a handler that was there before raises, likewise: Prefect's engine has one for SIGTERM,
            which must stay in its place, or a cancelled run passes for a crashed one.
    """
    started = [sys.executable, "-I", "-S", str(PARENT_DEATH), str(os.getpid()), *command]
    output = None if on_line is None else subprocess.PIPE
    process = subprocess.Popen(
        started,
        cwd=cwd,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=None if on_line is None else subprocess.STDOUT,
        start_new_session=True,
    )
    reader = threading.Thread(target=_read, args=(process, on_line), daemon=True) if on_line else None
    if reader:
        reader.start()
    family: Family = {}
    with _forwarding(process.pid, family) as received:
        try:
            _wait(process, family, received, cancelled, grace)
        except BaseException:  # raised by the handler of somebody else: end the command first, then let it pass
            stop = threading.Event()
            stop.set()
            _wait(process, family, received, stop, grace)
            raise
    if reader:
        reader.join(timeout=5)
    if received:
        raise KeyboardInterrupt if received[0] == signal.SIGINT else SystemExit(128 + received[0])
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def capture(command: Sequence[str], *, cwd: Path | None = None) -> str:
    """Standard output of a short command.

    Raises:
        CommandFailed: it ended with an error; `lines` holds what it said.
    """
    done = subprocess.run(
        list(command), cwd=cwd, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise CommandFailed(command, done.returncode, (done.stderr or done.stdout).strip().splitlines())
    return done.stdout


def is_running(pid: int, word: str = "") -> bool:
    """Whether process `pid` lives (zombies do not) and, if a word is given, has it in its command line."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and word in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def _wait(
    process: subprocess.Popen[bytes],
    family: Family,
    received: list[int],
    cancelled: threading.Event | None,
    grace: float,
) -> None:
    deadline: float | None = None
    while process.poll() is None:
        if deadline is None and cancelled is not None and cancelled.is_set():
            family |= _descendants(process.pid)  # before the signal: ranks have sessions of their own, and lose their
            signal_session(process.pid, signal.SIGTERM)  # parent when it ends
            deadline = time.monotonic() + grace
        if deadline is None and received:
            deadline = time.monotonic() + grace
        if deadline is not None:
            family |= _descendants(process.pid)
            if time.monotonic() > deadline:
                break
        try:
            process.wait(timeout=0.1)
        except subprocess.TimeoutExpired:
            continue
    left = {p.pid: p for p in [*family.values(), *_session(process.pid)]}
    if deadline is not None:  # its own end came first: the others have what remains of the grace
        _wait_for_end(left, deadline - time.monotonic(), leader=process.pid)
    if process.poll() is None:
        process.kill()
    for other in left.values():
        _send(other, signal.SIGKILL)
    process.wait()
    _wait_for_end(left, 5.0)  # a killed process takes a moment to end


def _wait_for_end(family: Family, seconds: float, leader: int | None = None) -> None:
    """Wait until all have ended; those outside the session of `leader` get SIGTERM once their parent is gone."""
    end = time.monotonic() + seconds
    told: set[int] = set()
    while left := {pid: p for pid, p in family.items() if p.is_running() and is_running(pid)}:
        if time.monotonic() > end:
            return
        if leader is not None:
            orphans = {pid for pid, p in left.items() if pid not in told and _is_orphan(p, left, leader)}
            for pid in orphans:
                _send(left[pid], signal.SIGTERM)
            told |= orphans
        time.sleep(0.02)


def _is_orphan(process: psutil.Process, family: Family, leader: int) -> bool:
    try:
        return process.ppid() not in family and os.getsid(process.pid) != leader
    except (ProcessLookupError, psutil.Error):
        return False


def _descendants(pid: int) -> Family:
    try:
        return {process.pid: process for process in psutil.Process(pid).children(recursive=True)}
    except psutil.NoSuchProcess:
        return {}


def _session(leader: int) -> list[psutil.Process]:
    """Processes of the session that `leader` opened, except itself."""
    found = []
    for pid in psutil.pids():
        try:
            if pid != leader and os.getsid(pid) == leader:
                found.append(psutil.Process(pid))
        except (ProcessLookupError, PermissionError, psutil.NoSuchProcess):
            continue
    return found


def signal_session(leader: int, signum: int) -> None:
    """Send a signal to every process of the session that `leader` opened, and to itself."""
    for process in [*_session(leader), *([psutil.Process(leader)] if psutil.pid_exists(leader) else [])]:
        _send(process, signum)


def _send(process: psutil.Process, signum: int) -> None:
    try:
        process.send_signal(signum)
    except psutil.Error:
        return


@contextmanager
def _forwarding(leader: int, family: Family) -> Iterator[list[int]]:
    """Forward signals to the session of `leader`; yields the list of those received. Only the main thread may.

    Args:
        family: gets the processes below `leader` before they are signalled.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def forward(signum: int, frame: FrameType | None) -> None:
        family.update(_descendants(leader))
        received.append(signum)
        signal_session(leader, signal.SIGTERM if len(received) > 1 else signum)

    free = (signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler)
    ours = [number for number in _FORWARDED if signal.getsignal(number) in free]
    before = {number: signal.signal(number, forward) for number in ours}
    try:
        yield received
    finally:
        for number, action in before.items():
            signal.signal(number, action)


def _read(process: subprocess.Popen[bytes], on_line: Callable[[str], None]) -> None:
    assert process.stdout is not None
    with process.stdout:
        for raw in process.stdout:
            on_line(raw.decode("utf-8", "replace").rstrip("\r\n"))
