"""Start stages as copies (`fork`) of a process beside DVC that has loaded the large libraries.

DVC itself cannot be copied: it has threads when it starts a stage. So a process that has none is copied from it first,
in the same session, and starts the stages on request. DVC holds the other end of a socket. A message on it is a JSON
object in one line (the command's words, the environment, the folder), and the answer is the exit status of the stage.
When DVC ends, for whatever reason, the socket ends, this process ends with it, and the stage gets the signal that every
stage asks for at the end of its parent.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NoReturn

from pipeline.graph.in_dvc.stages_in_copies.libraries import LIBRARIES, load_next, one_thread
from pipeline.graph.in_dvc.stages_in_copies.stage import become_stage
from pipeline.processes.command_line import show_command_line

_END_SECONDS = 5.0
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # the stage answers them, and its starter waits for it


class Starter:
    """The process that starts stages, as DVC's process sees it."""

    def __init__(self, channel: socket.socket, pid: int) -> None:
        self._channel, self._pid = channel, pid
        self._answers = channel.makefile("r", encoding="ascii")

    def run(self, words: Sequence[str], environment: Mapping[str, str], folder: str) -> int:
        """Run a stage to its end.

        Args:
            words: its command line: "python", "-P", "stages/run.py", "stages.embed", ...
            environment: all its environment variables.
            folder: in which it runs.

        Returns:
            Its exit status; -n after signal n.
        """
        request = {"words": list(words), "environment": dict(environment), "folder": folder}
        with suppress(OSError):
            self._channel.sendall(json.dumps(request).encode() + b"\n")
        answer = self._answers.readline()
        return int(answer) if answer else -signal.SIGKILL  # the process that would tell was killed

    def end(self) -> None:
        """End the process and wait for it, so that its processor time counts and no zombie stays."""
        self._answers.close()
        self._channel.close()
        deadline = time.monotonic() + _END_SECONDS  # it may be loading a library
        with suppress(ChildProcessError, ProcessLookupError):
            while os.waitpid(self._pid, os.WNOHANG)[0] == 0:
                if time.monotonic() > deadline:
                    os.kill(self._pid, signal.SIGKILL)
                time.sleep(0.005)


def fork_starter(load: bool) -> Starter:
    """Copy this process, which must have no thread, and let the copy start stages from now on.

    Args:
        load: whether the copy loads the libraries, once it has more than one stage to start.
    """
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        _start_stages(theirs, load)
    theirs.close()
    return Starter(ours, pid)


def _start_stages(channel: socket.socket, load: bool) -> NoReturn:
    show_command_line(["reprise:", "starts", "stages"])
    inherited = {number: signal.signal(number, signal.SIG_IGN) for number in _ENDING}  # `nohup` ignores SIGHUP
    awake, wake = os.pipe()
    for end in (awake, wake):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    rest = list(LIBRARIES) if load and one_thread(os.environ) else []
    waiting, running, started = b"", 0, 0
    while True:
        loading = bool(running and rest and started > 1)  # beside the second stage: one alone does not pay for it
        ready, _, _ = select.select([channel.fileno(), awake], [], [], 0 if loading else None)
        if awake in ready:
            os.read(awake, 4096)
        if running and (ended := os.waitpid(running, os.WNOHANG))[0]:
            running = 0
            with suppress(OSError):
                channel.sendall(f"{os.waitstatus_to_exitcode(ended[1])}\n".encode())
        if channel.fileno() in ready:
            received = channel.recv(1 << 16)
            if not received:
                os._exit(0)
            waiting += received
            if waiting.endswith(b"\n"):
                running = _fork_stage(json.loads(waiting), inherited, (channel.fileno(), awake, wake))
                waiting, started = b"", started + 1
        if loading and not ready:
            load_next(rest)


def _fork_stage(request: dict[str, object], handlers: Mapping[signal.Signals, Any], descriptors: Sequence[int]) -> int:
    """Copy this process; the copy becomes the stage. Signals that arrive in between wait for the stage."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for descriptor in descriptors:
            os.close(descriptor)
        become_stage(request["words"], request["environment"], request["folder"], _ENDING)  # type: ignore[arg-type]
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    return pid
