"""A stage ends with whoever started it, on every system and through a shell.

Linux tells a process that its parent died (entry.py asks for it), but DVC starts commands through a shell, and
some shells (dash) stay between the two: kill DVC and the shell lives on. Other systems tell nothing. So a
thread looks twice a second whether parent and, behind a shell, grandparent are still the same.
"""

from __future__ import annotations

import os
import signal
import threading
import time

import psutil

EVERY_SECONDS = 0.5
GRACE_SECONDS = 10.0  # between being asked to end and being ended: a long call into C hears no signal
SHELLS = frozenset({"sh", "bash", "dash", "ash", "zsh", "ksh", "fish", "tcsh"})


def watch_parents() -> None:
    """End this process soon after its parent ended, or after the DVC that is behind its shell did."""
    parents = _parents()
    threading.Thread(target=_watch, args=(parents,), name="watchdog", daemon=True).start()


def _parents() -> list[int]:
    """This process's parent and, where that is a shell of DVC's, its parent; empty when DVC is already gone."""
    parents = [os.getppid()]
    from_dvc = "DVC_STAGE" in os.environ
    if from_dvc and _name(parents[0]) in SHELLS:
        parents.append(_parent_of(parents[0]))
    return [] if from_dvc and _adopts_orphans(parents[-1]) else parents


def _watch(parents: list[int]) -> None:
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
    """0 when `pid` is gone."""
    try:
        return psutil.Process(pid).ppid()
    except psutil.Error:
        return 0


def _adopts_orphans(pid: int) -> bool:
    """Whether this is init, and not a DVC that is a container's first process: DVC shares its group with commands."""
    if pid not in (0, 1) and _name(pid) != "systemd":
        return False
    try:
        return os.getpgid(pid) != os.getpgrp()
    except OSError:  # gone, or a system that tells nothing about other sessions
        return True
