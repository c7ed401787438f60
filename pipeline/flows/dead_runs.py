"""Close flow runs whose process is gone, so that they neither look alive nor keep their place in a queue.

Prefect marks a run as crashed when its process reports that. A killed process reports nothing: its run stays "Running",
or "Submitting" if the worker died while starting it, and keeps its deployment's concurrency slot. Four signs show
that a run is dead: the kernel released its lock (`pipeline.flows.liveness`), the process number that the worker noted
no longer exists on this machine, the run never started and is too old, or it ran elsewhere and its heartbeat has
stopped. Closing a run through the API frees its slot.

Clocks of hosts differ, so no time that another host or the server wrote is compared with one of this host. A heartbeat
has stopped when this host has looked again and again, SILENT_SECONDS altogether, and has seen no change. Of the time
between two looks at most GAP_SECONDS count: while this host slept, or the server did not answer, nobody saw anything.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.flows import liveness
from pipeline.flows.api_client import call
from pipeline.graph.workspace import STATE
from pipeline.processes.commands import is_running
from reprise.config.errors import GraphError
from reprise.storage.atomic import write_json

STUCK_SECONDS = 300.0  # a start takes ten seconds, or a minute under load
CANCEL_SECONDS = 60.0  # a worker that cancels a run reports so itself shortly after the process has ended
SILENT_SECONDS = 600.0  # twenty beats
GAP_SECONDS = 90.0  # `reprise flows serve` looks every minute
OTHERS = STATE / "flows" / "others.json"  # what this host has seen of runs elsewhere
_OPEN_STATES = ["PENDING", "RUNNING", "CANCELLING"]
_PAGE_SIZE = 200


@dataclass(frozen=True)
class ClosedRun:
    """A flow run that was closed.

    Attributes:
        run_id: Prefect's id of the run.
        name: Prefect's name of the run.
        state: name of the state that the run was found in.
        reason: why the run counts as dead.
    """

    run_id: str
    name: str
    state: str
    reason: str

    def __str__(self) -> str:
        return f"closed run '{self.name}', which was {self.state}: {self.reason}"


def close_dead_runs(
    address: str, root: Path, *, stuck_seconds: float = STUCK_SECONDS, except_run: str = ""
) -> list[ClosedRun]:
    """Close this folder's dead runs.

    Args:
        address: URL of Prefect's API.
        root: the project folder.
        stuck_seconds: age from which a run that has not started counts as dead.
        except_run: id of a run that is never closed: the one that calls this.

    Raises:
        GraphError: the server does not answer.
    """
    registered = {run.run_id: run for run in liveness.list_registered_runs(root)}
    deployments, elsewhere = _Deployments(address, root), _Elsewhere(root)
    closed = []
    still_open = set()
    for run in list(_open_runs(address)):  # a list, because closing a run moves the pages
        still_open.add(run["id"])
        if run["id"] == except_run:
            continue
        if run["id"] not in registered and elsewhere.has(run):
            reason = elsewhere.reason_to_close(run)
        else:
            reason = _reason_to_close(run, registered.get(run["id"]), deployments, stuck_seconds)
        if reason and _close(address, run, reason):
            closed.append(ClosedRun(run["id"], run["name"], run["state_name"], reason))
            still_open.discard(run["id"])
    elsewhere.remember()
    dead = [run for run in registered.values() if not run.alive and run.run_id not in still_open]
    _forget_finished(address, dead)
    return closed


def _open_runs(address: str) -> Iterator[dict[str, Any]]:
    body = {"flow_runs": {"state": {"type": {"any_": _OPEN_STATES}}}, "sort": "ID_DESC", "limit": _PAGE_SIZE}
    offset = 0
    while page := call(address, "POST", "/flow_runs/filter", {**body, "offset": offset}):
        yield from page
        if len(page) < _PAGE_SIZE:
            return
        offset += len(page)


def _reason_to_close(
    run: dict[str, Any], registered: liveness.RegisteredRun | None, deployments: _Deployments, stuck_seconds: float
) -> str | None:
    """Return why a run counts as dead, or None if it is alive or belongs to another folder."""
    age = (datetime.now(UTC) - datetime.fromisoformat(run["state"]["timestamp"])).total_seconds()
    if registered is not None:
        if registered.alive or (run["state_type"] == "CANCELLING" and age < CANCEL_SECONDS):
            return None
        return f"its process {registered.process or ''} ended without reporting a state"
    if not deployments.run_in_this_folder(run.get("deployment_id")):
        return None
    host, _, pid = str(run.get("infrastructure_pid") or "").rpartition(":")
    if host and host != socket.gethostname():
        return None
    if age < stuck_seconds or (pid.isdigit() and is_running(int(pid), "prefect")):
        return None
    return f"it has reported nothing for {age:.0f} seconds; its worker probably ended while starting it"


def _close(address: str, run: dict[str, Any], reason: str) -> bool:
    """Set the final state, unless the run has changed its state or its heartbeat since it was listed."""
    current = call(address, "GET", f"/flow_runs/{run['id']}")
    if current["state_id"] != run["state_id"] or _beat(current) != _beat(run):
        return False
    final = "CANCELLED" if run["state_type"] == "CANCELLING" else "CRASHED"
    state = {"type": final, "message": f"Closed by Reprise: {reason}."}
    call(address, "POST", f"/flow_runs/{run['id']}/set_state", {"state": state, "force": True})
    return True


def _forget_finished(address: str, dead: list[liveness.RegisteredRun]) -> None:
    """Remove the files of dead runs that this API knows; a run of another API is left for that API to close."""
    if not dead:
        return
    body = {"flow_runs": {"id": {"any_": [run.run_id for run in dead][:_PAGE_SIZE]}}, "limit": _PAGE_SIZE}
    known = {run["id"] for run in call(address, "POST", "/flow_runs/filter", body)}
    for run in dead:
        if run.run_id in known:
            run.path.unlink(missing_ok=True)


def _beat(run: Mapping[str, Any]) -> Any:
    labels = run.get("labels")
    return labels.get(liveness.BEAT) if isinstance(labels, dict) else None


class _Elsewhere:
    """Watch the heartbeats of this project's runs in other folders, on this host or others."""

    def __init__(self, root: Path) -> None:
        self._path, self._project = root / OTHERS, liveness.project_of(root)
        self._boot = _boot_id()
        self._now = time.clock_gettime(_CLOCK)
        self._before: dict[str, Any] = {}
        self._seen: dict[str, dict[str, Any]] = {}
        with suppress(OSError, ValueError):
            stored = json.loads(self._path.read_text(encoding="utf-8"))
            if isinstance(stored, dict) and stored.get("boot") == self._boot and isinstance(stored.get("runs"), dict):
                self._before = stored["runs"]

    def has(self, run: Mapping[str, Any]) -> bool:
        """Return whether a run of this project gives heartbeats."""
        return _beat(run) is not None and run["labels"].get(liveness.PROJECT) == self._project

    def reason_to_close(self, run: Mapping[str, Any]) -> str | None:
        """Note what is seen of a run, and return why it counts as dead, or None if it may be alive."""
        silent = 0.0
        with suppress(KeyError, TypeError, ValueError):
            before = self._before[run["id"]]
            if before["beat"] == _beat(run):
                silent = float(before["silent"]) + max(0.0, min(self._now - float(before["looked"]), GAP_SECONDS))
        self._seen[run["id"]] = {"beat": _beat(run), "silent": silent, "looked": self._now}
        if silent < SILENT_SECONDS:
            return None
        return f"it ran on {run['labels'].get(liveness.HOST)}, whose heartbeat has stopped for {silent:.0f} seconds"

    def remember(self) -> None:
        """Keep what was seen, for the next look."""
        if self._seen or self._before:
            write_json(self._path, {"boot": self._boot, "runs": self._seen})


_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # goes on in sleep, and nobody sets it


def _boot_id() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return "unknown"


class _Deployments:
    """Look up which deployments run in this folder: those whose pull steps go there."""

    def __init__(self, address: str, root: Path) -> None:
        self._address, self._root, self._in_this_folder = address, str(root.resolve()), dict[str, bool]()

    def run_in_this_folder(self, deployment: str | None) -> bool:
        if deployment is None:
            return False
        if deployment not in self._in_this_folder:
            try:
                steps = call(self._address, "GET", f"/deployments/{deployment}").get("pull_steps") or []
            except GraphError:  # the deployment was deleted
                steps = []
            folders = [settings.get("directory") for step in steps for settings in step.values()]
            self._in_this_folder[deployment] = self._root in folders
        return self._in_this_folder[deployment]
