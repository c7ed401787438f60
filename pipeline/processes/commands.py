"""Run commands whose processes end together.

Each command gets a session of its own. Signals are forwarded to all of its processes, and none is left behind.
"""

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
from typing import IO, Protocol

import psutil

from pipeline.processes.signals import handling, signals_without_handler
from reprise.config import telemetry
from reprise.runtime.encoding import child_encoding
from reprise.runtime.interrupts import patience

GRACE_SECONDS = 45.0  # a stage needs time to save its work; torchrun alone gives its workers 30 seconds
OWN_MODULE = (sys.executable, "-P", "-m", "reprise.start")  # before the name of a module of ours
PARENT_DEATH = Path(__file__).with_name("parent_death.py")
OnLine = Callable[[str], None]
Family = dict[int, psutil.Process]  # the processes of a command by process number


class Started(Protocol):
    """A command that runs in a session of its own, as `subprocess.Popen` presents one."""

    @property
    def pid(self) -> int:
        """Its process number."""

    @property
    def returncode(self) -> int | None:
        """Its exit status, or -n after signal n; None while it runs."""

    def poll(self) -> int | None:
        """Look whether it has ended, and return `returncode`."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; `subprocess.TimeoutExpired` is raised after `timeout` seconds."""

    def kill(self) -> None:
        """Send SIGKILL."""


class CommandFailed(Exception):
    """A command ended with an error, which it has explained in its own output.

    Attributes:
        command: the command and its arguments.
        status: exit status; 128 + n after signal n.
        lines: the last lines of output, if they were captured.
        shown: the last lines of output that a person has seen already.
    """

    def __init__(
        self, command: Sequence[str], status: int, lines: Sequence[str] = (), shown: Sequence[str] = ()
    ) -> None:
        self.command, self.status, self.lines, self.shown = tuple(command), status, tuple(lines), tuple(shown)
        super().__init__(f"{' '.join(command)} ended with status {status}")


def environment() -> dict[str, str]:
    """Return the environment for commands: this Python first on PATH, UTF-8, no telemetry, and a plain shell for DVC.

    PYTHONUNBUFFERED lets lines arrive as they are written, with an error after the output that led to it.
    """
    python_folder = str(Path(sys.executable).parent)
    path = os.environ.get("PATH", os.defpath)
    parts = [python_folder, *(part for part in path.split(os.pathsep) if part != python_folder)]
    settings = {"PATH": os.pathsep.join(parts), "SHELL": "/bin/sh", "PYTHONUNBUFFERED": "1"}
    return {**os.environ, **telemetry.OFF, **child_encoding(dict(os.environ)), **settings}


def run(
    command: Sequence[str],
    *,
    on_line: OnLine | None = None,
    on_each_line: tuple[OnLine | None, OnLine | None] | None = None,
    cancelled: threading.Event | None = None,
    cwd: Path | None = None,
    grace: float = GRACE_SECONDS,
) -> int:
    """Run a command to its end, and forward SIGINT, SIGTERM and SIGHUP to all of its processes.

    Processes that are alive `grace` seconds after a signal, or when the command itself has ended, are killed. The
    command also gets SIGTERM if this process dies.

    Args:
        command: the program and its arguments; no shell is involved.
        on_line: called with each line of output, from another thread; without it, the command writes to the output of
            this process.
        on_each_line: in place of `on_line`, one function for standard output and one for error output; None leaves a
            stream to the command.
        cancelled: ends the command, as SIGTERM would, when another thread sets it.
        cwd: the folder to run in.
        grace: seconds between a signal and the kill.

    Returns:
        The exit status; 128 + n if signal n ended the command.

    Raises:
        KeyboardInterrupt: after SIGINT, once all processes have ended.
        SystemExit: after SIGTERM or SIGHUP, once all processes have ended.
        BaseException: what an existing signal handler raises, once all processes have ended. Prefect's engine has a
            handler for SIGTERM, which must stay in place, or a cancelled run would count as crashed.
    """
    started = [sys.executable, "-I", "-S", str(PARENT_DEATH), str(os.getpid()), *command]
    on_output, on_error = on_each_line or (on_line, None)
    process = subprocess.Popen(
        started,
        cwd=cwd,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if on_output else None,
        stderr=subprocess.STDOUT if on_line else subprocess.PIPE if on_error else None,
        start_new_session=True,
    )
    return follow(process, ((process.stdout, on_output), (process.stderr, on_error)), cancelled=cancelled, grace=grace)


def follow(
    process: Started,
    streams: Sequence[tuple[IO[bytes] | None, OnLine | None]],
    *,
    cancelled: threading.Event | None = None,
    grace: float = GRACE_SECONDS,
) -> int:
    """Wait for the end of a command that has been started in a session of its own; see `run`.

    Args:
        process: the command.
        streams: its output and error output, if they are read here, and what is called with each line.
        cancelled: as for `run`.
        grace: as for `run`.

    Returns:
        The exit status; 128 + n if signal n ended the command.

    Raises:
        BaseException: as `run`.
    """
    readers = [
        threading.Thread(target=_read, args=(stream, use), daemon=True) for stream, use in streams if stream and use
    ]
    for reader in readers:
        reader.start()
    family: Family = {}
    with _forwarding(process.pid, family) as received, patience():
        try:
            _wait(process, family, received, cancelled, grace)
        except BaseException:  # an existing signal handler raised it: end the command first
            stop = threading.Event()
            stop.set()
            _wait(process, family, received, stop, grace)
            raise
    for reader in readers:
        reader.join(timeout=5)
    if received:
        raise KeyboardInterrupt if received[0] == signal.SIGINT else SystemExit(128 + received[0])
    status = process.wait()
    return status if status >= 0 else 128 - status


def capture(command: Sequence[str], *, cwd: Path | None = None) -> str:
    """Run a short command and return its standard output.

    Raises:
        CommandFailed: the command ended with an error; `lines` holds its error output.
    """
    done = subprocess.run(
        list(command), cwd=cwd, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    output, errors = (stream.decode("utf-8", "surrogateescape") for stream in (done.stdout, done.stderr))
    if done.returncode:
        raise CommandFailed(command, done.returncode, (errors or output).strip().splitlines())
    return output


def is_running(pid: int, word: str = "") -> bool:
    """Return whether a process is alive and its command line contains `word`; a zombie is not alive."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and word in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def _wait(
    process: Started,
    family: Family,
    received: list[int],
    cancelled: threading.Event | None,
    grace: float,
) -> None:
    deadline: float | None = None
    while process.poll() is None:
        if deadline is None and cancelled is not None and cancelled.is_set():
            # Descendants are listed before the signal: one with a session of its own gets no signal, and cannot be
            # found any more once its parent has ended.
            family |= _descendants(process.pid)
            signal_session(process.pid, signal.SIGTERM)
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
    remaining = {p.pid: p for p in [*family.values(), *_session(process.pid)]}
    if deadline is not None:  # after a signal, the other processes have the rest of the grace time
        _wait_for_end(remaining, deadline - time.monotonic(), leader=process.pid)
    if process.poll() is None:
        process.kill()
    for other in remaining.values():
        _send(other, signal.SIGKILL)
    process.wait()
    _wait_for_end(remaining, 5.0)  # a killed process takes a moment to end


def _wait_for_end(family: Family, seconds: float, leader: int | None = None) -> None:
    """Wait until all processes have ended, or `seconds` have passed.

    With a `leader`, processes outside its session get SIGTERM once their parent has ended: no signal reached them.
    """
    end = time.monotonic() + seconds
    signalled: set[int] = set()
    while alive := {pid: p for pid, p in family.items() if p.is_running() and is_running(pid)}:
        if time.monotonic() > end:
            return
        if leader is not None:
            orphans = {pid for pid, p in alive.items() if pid not in signalled and _is_orphan(p, alive, leader)}
            for pid in orphans:
                _send(alive[pid], signal.SIGTERM)
            signalled |= orphans
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
    """List the processes of the session that `leader` opened, except itself."""
    processes = []
    for pid in psutil.pids():
        try:
            if pid != leader and os.getsid(pid) == leader:
                processes.append(psutil.Process(pid))
        except (ProcessLookupError, PermissionError, psutil.NoSuchProcess):
            continue
    return processes


def signal_session(leader: int, signum: int) -> None:
    """Send a signal to every process of the session that `leader` opened, and to `leader`."""
    for process in [*_session(leader), *([psutil.Process(leader)] if psutil.pid_exists(leader) else [])]:
        _send(process, signum)


def _send(process: psutil.Process, signum: int) -> None:
    try:
        process.send_signal(signum)
    except psutil.Error:
        return


@contextmanager
def _forwarding(leader: int, family: Family) -> Iterator[list[int]]:
    """Forward signals to the session of `leader`, and yield the list of those received.

    Only the main thread may set signal handlers; in another thread, nothing is forwarded.

    Args:
        leader: process number of the command.
        family: receives the descendants of `leader` before they are signalled.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def forward(signum: int, frame: FrameType | None) -> None:
        family.update(_descendants(leader))
        received.append(signum)
        signal_session(leader, signal.SIGTERM if len(received) > 1 else signum)

    with handling(signals_without_handler(), forward):
        yield received


def _read(stream: IO[bytes], on_line: OnLine) -> None:
    """Pass lines on; where nobody reads them any more (`| head`), the command goes on without being heard."""
    heard = True
    with stream:
        for raw in stream:
            if heard:
                try:
                    on_line(raw.decode("utf-8", "replace").rstrip("\r\n"))
                except BrokenPipeError:
                    heard = False
