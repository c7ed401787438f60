"""Know which flow runs are alive: in this folder by locks, elsewhere by heartbeats.

A run holds a lock on a file of its own while its process lives. The kernel releases it however the process ends, so a
file that can be locked belongs to a dead run. Other hosts cannot see the lock: for them a run counts up a label of its
record on Prefect's server (`reprise.beat`). A flow that a worker started also ends when that worker does.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.flows.api_client import call
from pipeline.graph.workspace import STATE
from pipeline.processes.git import git
from reprise.config.errors import GitError, GraphError
from reprise.storage.atomic import explained_storage
from reprise.storage.locks import FileLock

RUNS = STATE / "flows" / "runs"
POLL_SECONDS = 0.5
BEAT_SECONDS = 30.0
BEAT, HOST, PROJECT = "reprise.beat", "reprise.host", "reprise.project"  # labels of a flow run
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


@contextmanager
def heartbeat(run_id: str, address: str, root: Path) -> Iterator[None]:
    """Count up a label of a flow run inside the `with` block, every BEAT_SECONDS from a thread of its own.

    A server that does not answer is passed over: the next beat may reach it.

    Args:
        run_id: Prefect's id of the run.
        address: URL of Prefect's API.
        root: the project folder.
    """
    stop, project = threading.Event(), project_of(root)

    def beat() -> None:
        count = 0
        while True:
            labels = {BEAT: count, HOST: socket.gethostname(), PROJECT: project}
            with suppress(GraphError):
                call(address, "PATCH", f"/flow_runs/{run_id}/labels", labels)
            count += 1
            if stop.wait(BEAT_SECONDS):
                return

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()  # a request that is under way is not waited for


def project_of(root: Path) -> str:
    """Return what all clones of a project have in common: its first commit; without git, the folder's path."""
    with suppress(GitError):
        commits = git("rev-list", "--max-parents=0", "HEAD", cwd=root).split()
        prefix = git("rev-parse", "--show-prefix", cwd=root).strip()
        if commits:
            return f"{min(commits)} {prefix}".strip()
    return str(root.resolve())
