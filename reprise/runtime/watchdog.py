"""A stage ends when the process that started it ends, on every system and through a shell.

Linux signals a process whose parent died (entry.py asks for it), but DVC starts commands through a shell, and some
shells (dash) stay between the two: when DVC is killed, the shell lives on. Other systems send no signal. So a thread
checks twice a second whether the parent and, behind a shell, the grandparent are still the same.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress

import psutil

EVERY_SECONDS = 0.5
GRACE_SECONDS = 10.0  # between SIGTERM and SIGKILL: Python handles no signal during a long call into C
SHELLS = frozenset({"sh", "bash", "dash", "ash", "zsh", "ksh", "fish", "tcsh"})


def watch_parents() -> None:
    """Start a thread that ends this process soon after its parent, or the DVC behind its shell, has ended.

    Where the system has no thread left, the stage goes on without: on Linux the signal of `prepare_process` remains.
    """
    ancestors = parents()
    with suppress(RuntimeError):
        threading.Thread(target=_watch, args=(ancestors,), name="watchdog", daemon=True).start()


def parents() -> list[int]:
    """Return the parent and, where that is a shell of DVC's, the grandparent; empty when DVC is already gone."""
    ancestors = [os.getppid()]
    from_dvc = "DVC_STAGE" in os.environ
    if from_dvc and _name(ancestors[0]) in SHELLS:
        ancestors.append(_parent_of(ancestors[0]))
    return [] if from_dvc and _adopts_orphans(ancestors[-1]) else ancestors


def _watch(parents: list[int]) -> None:
    """Wait until one of the parents is another process, then end this one."""
    while parents and os.getppid() == parents[0] and (len(parents) == 1 or _parent_of(parents[0]) == parents[1]):
        time.sleep(EVERY_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def _name(pid: int) -> str:
    try:
        return psutil.Process(pid).name().lstrip("-")
    except psutil.Error:
        return ""


def _parent_of(pid: int) -> int:
    """Return the parent of a process; 0 when it is gone."""
    try:
        return psutil.Process(pid).ppid()
    except psutil.Error:
        return 0


def _adopts_orphans(pid: int) -> bool:
    """Tell whether a process is init, and not DVC as a container's first process.

    DVC and its commands share a process group; init shares none with them.
    """
    if pid not in (0, 1) and _name(pid) != "systemd":
        return False
    try:
        return os.getpgid(pid) != os.getpgrp()
    except OSError:  # it is gone, or the system hides the processes of other sessions
        return True
