"""Prefect's flows: `reproduce` runs the graph with one task a DVC stage, `refresh` does so when the source changed,
`sweep` tries parameters. What they have in common is here; what they do is in `graph_run` and `sweep`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from prefect import flow, get_run_logger, runtime
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelled, Completed, Failed

from pipeline import janitor, presence
from pipeline.flow_tasks import Tasks
from pipeline.graph_run import GraphRun
from pipeline.redaction import redactor
from pipeline.workspace import exclusive
from stages.contracts.errors import ParameterError, RepriseError, WorkspaceBusyError

if TYPE_CHECKING:  # it brings scipy: half a second that the other flows need not wait
    from pipeline.sweep import SweepPlan, SweepPoint, SweepResult

Busy = Literal["wait", "drop"]
_LOOK_SECONDS = 2.0


@flow(name="reproduce", validate_parameters=True)
def reproduce(
    targets: list[str] | None = None, busy: Busy = "wait", retries: int = 2, retry_delay_seconds: float = 10.0
) -> State:
    """Bring the graph up to date: one task a stage.

    Args:
        targets: stages ("pretrain", "pretrain/simclr/0") to make with what they need; none: all.
        busy: what to do while another run works in this folder: wait for it, or drop this run.
        retries: further tries after a failure that may pass by itself (a download, a remote).
        retry_delay_seconds: before the first of them; it doubles each time.
    """

    def work(tasks: Tasks) -> State:
        with exclusive(tasks.root, wait=busy == "wait", say=tasks.say):
            return GraphRun(tasks).reproduce(targets or [])

    return _told(work, retries, retry_delay_seconds)


@flow(name="refresh", validate_parameters=True)
def refresh(busy: Busy = "drop", retries: int = 2, retry_delay_seconds: float = 10.0) -> State:
    """Look at the source of images, and bring the graph up to date if it is not what the last completed run saw.

    Args:
        busy, retries, retry_delay_seconds: as for `reproduce`.
    """

    def work(tasks: Tasks) -> State:
        with exclusive(tasks.root, wait=busy == "wait", say=tasks.say):
            return GraphRun(tasks).reproduce([], only_if_source_changed=True)

    return _told(work, retries, retry_delay_seconds)


@flow(name="sweep", validate_parameters=True)
def sweep(plan: str, busy: Busy = "wait") -> State:
    """Try what a plan states, each point as a DVC experiment beside the folder, and compare the points.

    Args:
        plan: a file below this folder ("sweeps/weekly.yaml"); docs/sweeps.md shows plans.
        busy: what to do while another sweep works in this folder. Runs of the graph are not in its way.
    """

    from pipeline.sweep import load_plan

    def work(tasks: Tasks) -> State:
        path = (tasks.root / plan).resolve()
        if not path.is_relative_to(tasks.root.resolve()):
            raise ParameterError("a plan lies in this folder", where="plan", found=plan, fix="Copy it to sweeps/.")
        return _swept(load_plan(path), tasks, wait=busy == "wait")

    return _told(work, 0, 0.0)


def _swept(plan: SweepPlan, tasks: Tasks, *, wait: bool) -> State:
    """Run a plan, then show each point as a task and leave the comparison."""
    from pipeline.sweep import run_sweep

    told = False
    while True:
        try:
            result = _aside(
                lambda stop: run_sweep(plan, root=tasks.root, say=tasks.say, on_line=tasks.say, cancelled=stop)
            )
            break
        except WorkspaceBusyError as error:
            if not wait:
                raise
            if not told:
                tasks.say(f"waiting for another sweep in this folder: {error.found}")
            told = True
            time.sleep(_LOOK_SECONDS)
    for point in result.points:
        tasks.run(f"{point.name} {point.point.title}", partial(_state_of, point, tasks))
    tasks.markdown("sweep", result.markdown(), "points, figures and verdicts")
    done = f"{sum(point.experiment is not None for point in result.points)} of {len(result.points)} points done"
    if result.failed:
        failures = "; ".join(f"{point.name}: {point.message}" for point in result.failed)
        return Failed(message=tasks.hide(f"{done}; {failures}"))
    return Completed(message=done)


def _aside(work: Callable[[threading.Event], SweepResult]) -> SweepResult:
    """Do `work` in another thread, which is told to stop before what a signal raises in this one goes on its way."""
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work, stop)
        try:
            while not future.done():
                wait_for([future], timeout=0.2)  # in steps, so that signals are handled meanwhile
        except BaseException:
            stop.set()
            raise
    return future.result()


def _state_of(point: SweepPoint, tasks: Tasks) -> State:
    from pipeline.sweep import FAILED, FOUND

    message = tasks.hide(point.line())
    if point.experiment is None:
        return Failed(message=message) if point.state == FAILED else Cancelled(name="Stopped", message=message)
    return Completed(name="Cached" if point.state == FOUND else "Ran", message=message)


def _told(work: Callable[[Tasks], State], retries: int, delay: float) -> State:
    """Do `work` as a run that the janitor can see, and turn expected errors into states."""
    root = Path.cwd()
    hide = redactor(root)
    logger = get_run_logger()
    this = str(runtime.flow_run.id)

    def say(line: str) -> None:
        logger.info("%s", hide(line))

    if runtime.deployment.id:
        presence.end_with_worker()
    presence.appear(this, root)
    try:
        for closed in janitor.tidy(str(PREFECT_API_URL.value()), root, but=this):
            say(str(closed))
        return work(Tasks(root, hide, say, [delay * 2**n for n in range(retries)]))
    except WorkspaceBusyError as error:
        return Cancelled(name="Dropped", message=hide(f"{error.what}: {error.found}; this run was told not to wait"))
    except RepriseError as error:
        return Failed(message=hide(str(error)))
