"""Tasks and preparations for worker processes, in a module of their own, since the processes import it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def nothing() -> None:
    """Prepare nothing."""


def no_library() -> None:
    """Fail like an import of a library of which a part is missing."""
    raise ImportError("libGL.so.1: cannot open shared object file")


def killed_at_start() -> None:
    """End as the out-of-memory killer ends a process."""
    os.kill(os.getpid(), signal.SIGKILL)


def killed_at_first(marks: str, times: int) -> None:
    """End by SIGKILL until `times` processes have left their mark."""
    here = Path(marks)
    if len(list(here.iterdir())) < times:
        (here / str(os.getpid())).touch()
        os.kill(os.getpid(), signal.SIGKILL)


def do(task: tuple[str, object]) -> object:
    """Do what the first part of the task says."""
    verb, value = task
    if verb == "signal":
        os.kill(os.getpid(), int(str(value)))
    if verb == "exit":
        os._exit(int(str(value)))
    if verb == "sleep":
        time.sleep(float(str(value)))
    if verb == "raise":
        raise LookupError(value)
    if verb == "first signal":  # end the first process that gets this task, and do it in the next one
        mark = Path(str(value))
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid() if verb == "process" else value
