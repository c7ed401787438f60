"""Know which flow runs are alive in this folder: each holds a lock on a file of its own while its process lives.

The kernel releases the lock however the process ends, so a file that can be locked belongs to a dead run.
A flow that a worker started also ends when that worker does.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.graph.workspace import STATE
from reprise.storage.atomic import explained_storage
from reprise.storage.locks import FileLock

RUNS = STATE / "flows" / "runs"
POLL_SECONDS = 0.5
_held: list[FileLock] = []  # until this process ends


@dataclass(frozen=True)
class RegisteredRun:
    """A flow run that has registered in this folder.

    Attributes:
        run_id: Prefect's id of the run.
        alive: whether its process still holds the lock.
        process: number of its process, if the file could be read.
        path: the file that it locks.
    """

    run_id: str
    alive: bool
    process: int | None
    path: Path


def register_run(run_id: str, root: Path) -> None:
    """Lock the file of a flow run until this process ends; `close_dead_runs` removes the file later."""
    path = root / RUNS / f"{run_id}.json"
    lock = FileLock(path)
    while not lock.take():  # somebody is just looking whether the run is alive
        time.sleep(0.05)
    _held.append(lock)
    note = {"process": os.getpid(), "host": socket.gethostname(), "started": time.time()}
    with explained_storage(path):
        path.write_text(json.dumps(note), encoding="utf-8")


def list_registered_runs(root: Path) -> list[RegisteredRun]:
    """List the flow runs that are alive in this folder, and those that were killed in it."""
    runs = []
    for path in sorted((root / RUNS).glob("*.json")):
        process = None
        with suppress(OSError, ValueError, KeyError, TypeError):
            process = int(json.loads(path.read_bytes())["process"])
        try:
            runs.append(RegisteredRun(path.stem, FileLock(path).is_held(), process, path))
        except OSError:  # another process has just removed it
            continue
    return runs


def end_with_worker() -> None:
    """Send this process SIGTERM soon after the worker that started it has ended."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="worker-watch", daemon=True).start()
