"""Hold a process that has loaded DVC, and let it run stages in copies of itself (pipeline/graph/in_dvc/loaded.py)."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from pipeline.processes.commands import (
    GRACE_SECONDS,
    OWN_MODULE,
    PARENT_DEATH,
    CommandFailed,
    OnLine,
    environment,
    follow,
    signal_session,
)

_COMMAND = (*OWN_MODULE, "pipeline.graph.in_dvc", "repro", "--stages-from")
_END_SECONDS = 5.0


class LoadedDvc:
    """The process; `loaded_dvc` makes one. Any thread may call `run`."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel, self._one_at_a_time = channel, threading.Lock()

    def run(
        self,
        arguments: Sequence[str],
        *,
        on_each_line: tuple[OnLine, OnLine],
        cancelled: threading.Event,
        variables: Mapping[str, str] | None = None,
        grace: float = GRACE_SECONDS,
    ) -> int:
        """Run DVC to its end in a session of its own.

        Args:
            arguments: of DVC's command line.
            on_each_line: called with each line of output, and of error output, from other threads.
            cancelled: ends it, as SIGTERM would, when another thread sets it.
            variables: environment variables to set.
            grace: seconds between the signal and the kill.

        Returns:
            The exit status; 128 + n if signal n ended it.

        Raises:
            CommandFailed: the process that had loaded DVC has ended.
        """
        process, streams = self._start(arguments, variables or {})
        return follow(process, list(zip(streams, on_each_line, strict=True)), cancelled=cancelled, grace=grace)

    def _start(self, arguments: Sequence[str], variables: Mapping[str, str]) -> tuple[_Copy, list[IO[bytes]]]:
        pipes = [os.pipe() for _ in range(3)]  # output, error output, exit status
        message = json.dumps({"arguments": list(arguments), "environment": dict(variables)})
        try:
            with self._one_at_a_time:
                socket.send_fds(self._channel, [message.encode()], [writing for _, writing in pipes])
                answer = self._channel.recv(64)
        except OSError:
            answer = b""
        finally:
            for _, writing in pipes:
                os.close(writing)
        if not answer:
            for reading, _ in pipes:
                os.close(reading)
            raise CommandFailed([*_COMMAND, *arguments], 1, ["ERROR: the process that starts DVC has ended"])
        output, errors, status = (reading for reading, _ in pipes)
        return _Copy(int(answer), status), [open(output, "rb"), open(errors, "rb")]


class _Copy:
    """A copy of the process, as `subprocess.Popen` presents a process that it started."""

    def __init__(self, pid: int, status: int) -> None:
        self.pid, self.returncode = pid, None
        self._status = status

    pid: int
    returncode: int | None

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            ready, _, _ = select.select([self._status], [], [], timeout)
            if not ready:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            text = os.read(self._status, 64)
            os.close(self._status)
            self.returncode = int(text) if text else -signal.SIGKILL  # the process that would tell was killed
        return self.returncode

    def kill(self) -> None:
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


@contextmanager
def loaded_dvc(root: Path) -> Iterator[LoadedDvc]:
    """Start a process that loads DVC, and end it after the `with` block.

    It must be called in a thread that outlives the block: the process ends with the thread that started it.

    Args:
        root: the project folder.
    """
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(PARENT_DEATH), str(os.getpid()), *_COMMAND, str(theirs.fileno())],
                cwd=root,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        try:
            yield LoadedDvc(ours)
        finally:
            ours.close()
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                signal_session(process.pid, signal.SIGKILL)
                process.wait()
