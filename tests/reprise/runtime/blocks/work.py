"""Blocks for Dask workers, in a module of their own, since the workers import it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def square(x: int) -> int:
    """Return the square of a number."""
    return x * x


def fail(x: int) -> int:
    """Raise an error for one of the tasks."""
    if x == 3:
        raise ValueError(f"task {x}")
    return x


def process_of(x: int) -> int:
    """Return the process that does the task."""
    time.sleep(0.05)
    return os.getpid()


def killing_once(task: tuple[str, int]) -> int:
    """End the worker of task 5 by SIGKILL, the first time that it is done."""
    folder, x = task
    mark = Path(folder) / "killed"
    if x == 5 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return x * x


def killing(x: int) -> int:
    """End every worker that does the task."""
    os.kill(os.getpid(), signal.SIGKILL)
    return x


def slow(x: int) -> int:
    """Take a minute."""
    time.sleep(60)
    return x


def nothing() -> None:
    """Prepare nothing."""


def length(data: bytes) -> int:
    """Return the length of a task."""
    return len(data)


def zeros(count: int) -> bytes:
    return bytes(count)
