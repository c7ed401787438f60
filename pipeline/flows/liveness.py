"""Which flow runs are alive in this folder: each holds a lock on a file of its own while its process lives.

The kernel gives the lock back however the process ends, so a file that can be locked belongs to a dead run.
A flow that a worker started also ends when that worker does: nothing outlives its starter.
"""

from __future__ import annotations

import fcntl
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

RUNS = STATE / "flows" / "runs"
EVERY_SECONDS = 0.5


@dataclass(frozen=True)
class Seen:
    """A flow run that has left its file here."""

    flow_run: str
    alive: bool
    process: int | None
    path: Path


def appear(flow_run: str, root: Path) -> None:
    """Hold the file of a flow run until this process ends; the janitor removes it once the run is closed."""
    path = root / RUNS / f"{flow_run}.json"
    with explained_storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    note = {"process": os.getpid(), "host": socket.gethostname(), "started": time.time()}
    os.pwrite(descriptor, json.dumps(note).encode(), 0)


def seen(root: Path) -> list[Seen]:
    """Flow runs that are, or were until they were killed, in this folder."""
    found = []
    for path in sorted((root / RUNS).glob("*.json")):
        try:
            descriptor = os.open(path, os.O_RDWR)
        except OSError:
            continue
        try:
            alive = False
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                alive = True
            process = None
            with suppress(ValueError, KeyError, TypeError):
                process = int(json.loads(os.pread(descriptor, 1000, 0))["process"])
            found.append(Seen(path.stem, alive, process, path))
        finally:
            os.close(descriptor)
    return found


def end_with_worker() -> None:
    """Send this process SIGTERM soon after the worker that started it has gone."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(EVERY_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="worker-watch", daemon=True).start()
