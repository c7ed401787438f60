"""Run DVC again and again in copies (`fork`) of a process that has loaded it once.

To load DVC takes most of what one `dvc repro --single-item` costs (0.8 of 1.1 s of a processor). Each copy is a process
of its own, in a session of its own, and works as the command line of DVC does: it takes DVC's lock, and its number
stands in DVC's notes. The process that is copied opens no repository and starts no thread.

Whoever starts this process holds the other end of a socket (pipeline/graph/jobs/loaded_dvc.py). A message on it is a
JSON object with the arguments of DVC and the environment variables to set; three file descriptors come with it, for
output, error output, and the exit status. The answer is the number of the process. The end of the socket ends the wait.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import select
import signal
import socket
import sys
import threading
from contextlib import suppress
from typing import NoReturn

from pipeline.graph.in_dvc.stages_in_copies.libraries import LIBRARIES, load_next, one_thread

_LONGEST_MESSAGE = 1 << 16
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def run_stages_from(descriptor: int) -> int:
    """Start a copy of this process for each message on a socket, until its other end is closed.

    Args:
        descriptor: of the socket.
    """
    channel = socket.socket(fileno=descriptor)
    channel.set_inheritable(False)
    _load()
    awake, wake = os.pipe()
    for end in (awake, wake):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    statuses: dict[int, int] = {}  # number of a copy -> descriptor for its exit status
    rest, started = list(LIBRARIES) if one_thread(os.environ) else [], 0
    while True:
        loading = bool(rest and started > 1)  # one stage alone does not pay for it
        ready, _, _ = select.select([channel.fileno(), awake], [], [], 0 if loading else None)
        if loading and not ready:
            load_next(rest)
        if awake in ready:
            os.read(awake, 4096)
            _report_ended(statuses)
        if channel.fileno() in ready:
            message, descriptors, _, _ = socket.recv_fds(channel, _LONGEST_MESSAGE, 3)
            if not message:
                return 0
            request = json.loads(message)
            output, errors, status = descriptors
            this = os.getpid()
            pid = os.fork()
            if pid == 0:
                for end in (channel.fileno(), awake, wake, status, *statuses.values()):
                    os.close(end)
                _run_as_copy(request["arguments"], request["environment"], output, errors, this)
            statuses[pid], started = status, started + 1
            os.close(output)
            os.close(errors)
            channel.sendall(f"{pid}\n".encode())


def _load() -> None:
    """Import what DVC needs to run a stage, and no more: nothing is opened and no thread is started."""
    from pipeline.graph.in_dvc.command import keep_notes_private

    keep_notes_private()
    import dvc.cli
    import dvc.dvcfile
    import dvc.parsing
    import dvc.repo.reproduce
    import dvc.scm
    import dvc.stage.run

    from pipeline.graph.in_dvc import cache, replacements  # noqa: F401
    from reprise.runtime import interrupts  # noqa: F401
    from reprise.storage import running  # noqa: F401

    dvc.cli.parse_args(["repro"])  # imports the modules of all commands
    if threading.active_count() > 1:
        raise RuntimeError(f"a thread runs in the process that is to be copied: {threading.enumerate()}")
    gc.collect()
    gc.freeze()  # what is loaded stays shared between the copies


def _report_ended(statuses: dict[int, int]) -> None:
    """Write the exit status of each copy that has ended; after signal n it is -n."""
    for pid in list(statuses):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            descriptor = statuses.pop(pid)
            with suppress(OSError):  # nobody waits for it any more
                os.write(descriptor, f"{os.waitstatus_to_exitcode(status)}\n".encode())
            os.close(descriptor)


def _run_as_copy(arguments: list[str], variables: dict[str, str], output: int, errors: int, parent: int) -> NoReturn:
    """Run DVC in this process, which has just been copied from the process `parent`, and end it."""
    from pipeline.graph.in_dvc.stages_in_copies.starting import end_starting, prepare_to_start_stages

    code = 1
    try:
        os.setsid()
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(128 + signal.SIGTERM)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(output, 1)
        os.dup2(errors, 2)
        for end in (output, errors):
            os.close(end)
        prepare_to_start_stages(load=False)
        os.environ.update(variables)
        sys.argv[1:] = arguments
        code = _code_of(arguments)
        end_starting()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _code_of(arguments: list[str]) -> int:
    from pipeline.graph.in_dvc.cache import REFUSALS
    from pipeline.graph.in_dvc.command import run_command

    try:
        REFUSALS.note_outputs()  # of dvc.lock as it is now
        return run_command(arguments)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    except BaseException:  # noqa: BLE001 - nothing may return into the process that was copied
        sys.excepthook(*sys.exc_info())
        return 1
