"""Close flow runs that nobody works on any more, so that they neither look alive nor hold a place in a queue.

Prefect marks a run as crashed when its process tells so. A process that was killed tells nothing: its run stays
"Running", or "Submitting" when the worker died while starting it, and keeps its deployment's place. What is dead
is decided by the kernel (`pipeline.flows.liveness`), by the process number that the worker noted on this machine, and
for runs that never started by their age. Closing a run by the API gives its place back.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.flows import liveness
from pipeline.flows.api_client import call
from pipeline.processes.processes import is_running
from reprise.config.errors import GraphError

STUCK_SECONDS = 300.0  # a start takes ten seconds, under load a minute
CANCEL_SECONDS = 60.0  # a worker that cancels a run says so itself, a moment after the run's process has ended
_OPEN = ["PENDING", "RUNNING", "CANCELLING"]
_PAGE = 200


@dataclass(frozen=True)
class Closed:
    """A run that was closed."""

    flow_run: str
    name: str
    was: str
    why: str

    def __str__(self) -> str:
        return f"closed run '{self.name}', which was {self.was}: {self.why}"


def tidy(address: str, root: Path, *, stuck_seconds: float = STUCK_SECONDS, but: str = "") -> list[Closed]:
    """Close this folder's dead runs.

    Args:
        address: of Prefect's API.
        stuck_seconds: age from which a run that has not started counts as dead.
        but: id of the run that asks.

    Raises:
        GraphError: the server does not answer.
    """
    files = {seen.flow_run: seen for seen in liveness.seen(root)}
    known = _Deployments(address, root)
    closed = []
    still_open = set()
    for run in list(_open_runs(address)):  # closing one moves the pages
        still_open.add(run["id"])
        if run["id"] == but:
            continue
        why = _cause_of_death(run, files.get(run["id"]), known, stuck_seconds)
        if why and _close(address, run, why):
            closed.append(Closed(run["id"], run["name"], run["state_name"], why))
            still_open.discard(run["id"])
    for seen in files.values():
        if not seen.alive and seen.flow_run not in still_open:
            seen.path.unlink(missing_ok=True)
    return closed


def _open_runs(address: str) -> Iterator[dict[str, Any]]:
    body = {"flow_runs": {"state": {"type": {"any_": _OPEN}}}, "sort": "ID_DESC", "limit": _PAGE}
    offset = 0
    while page := call(address, "POST", "/flow_runs/filter", {**body, "offset": offset}):
        yield from page
        if len(page) < _PAGE:
            return
        offset += len(page)


def _cause_of_death(
    run: dict[str, Any], seen: liveness.Seen | None, known: _Deployments, stuck_seconds: float
) -> str | None:
    """Why a run counts as dead; None when it lives or is none of this folder's business."""
    age = (datetime.now(UTC) - datetime.fromisoformat(run["state"]["timestamp"])).total_seconds()
    if seen is not None:
        if seen.alive or (run["state_type"] == "CANCELLING" and age < CANCEL_SECONDS):
            return None
        return f"its process {seen.process or ''} ended without a word"
    if not known.of_this_folder(run.get("deployment_id")):
        return None
    host, _, pid = str(run.get("infrastructure_pid") or "").rpartition(":")
    if host and host != socket.gethostname():
        return None
    if age < stuck_seconds or (pid.isdigit() and is_running(int(pid), "prefect")):
        return None
    return f"nothing was heard of it for {age:.0f} seconds; its worker probably ended while starting it"


def _close(address: str, run: dict[str, Any], why: str) -> bool:
    """Set the final state, if the run is still in the state that it was found in."""
    now = call(address, "GET", f"/flow_runs/{run['id']}")
    if now["state_id"] != run["state_id"]:
        return False
    cancelling = run["state_type"] == "CANCELLING"
    state = {"type": "CANCELLED" if cancelling else "CRASHED", "message": f"Closed by Reprise's janitor: {why}."}
    call(address, "POST", f"/flow_runs/{run['id']}/set_state", {"state": state, "force": True})
    return True


class _Deployments:
    """Which deployments run in this folder: those that go there before they start."""

    def __init__(self, address: str, root: Path) -> None:
        self._address, self._root, self._known = address, str(root.resolve()), dict[str, bool]()

    def of_this_folder(self, deployment: str | None) -> bool:
        if deployment is None:
            return False
        if deployment not in self._known:
            try:
                steps = call(self._address, "GET", f"/deployments/{deployment}").get("pull_steps") or []
            except GraphError:  # deleted
                steps = []
            folders = [settings.get("directory") for step in steps for settings in step.values()]
            self._known[deployment] = self._root in folders
        return self._known[deployment]
