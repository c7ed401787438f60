"""Run a sweep under Prefect: each point is a task that shows what its stages write; the comparison comes at the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Failed

from pipeline.flows.tasks import Tasks
from pipeline.sweeps.runner import DONE_BEFORE, FAILED, RUNNING, WAITING, SweepPlan, SweepPoint, SweepResult, run_sweep
from reprise.config.errors import WorkspaceBusyError

_RETRY_SECONDS = 2.0  # between attempts while another sweep works in the folder
_POLL_SECONDS = 0.2  # short, because signals are handled between two polls


def run_sweep_flow(plan: SweepPlan, tasks: Tasks, *, wait: bool) -> State:
    """Run a plan, show its points as tasks, and publish the comparison.

    Args:
        plan: the plan.
        tasks: makes the tasks of this flow run.
        wait: whether to wait while another sweep works in this folder.

    Raises:
        WorkspaceBusyError: another sweep works in this folder and `wait` is false.
    """
    reported = False
    while True:
        try:
            result = _run_points_as_tasks(plan, tasks)
            break
        except WorkspaceBusyError as error:
            if not wait:
                raise
            if not reported:
                tasks.say(f"waiting for another sweep in this folder: {error.found}")
            reported = True
            time.sleep(_RETRY_SECONDS)
    tasks.markdown("sweep", result.markdown(), "points, figures and verdicts")
    done = f"{sum(point.experiment is not None for point in result.points)} of {len(result.points)} points done"
    if result.failed:
        failures = "; ".join(f"{point.name}: {point.message}" for point in result.failed)
        return Failed(message=tasks.hide(f"{done}; {failures}"))
    return Completed(message=done)


def _run_points_as_tasks(plan: SweepPlan, tasks: Tasks) -> SweepResult:
    """Run the plan in another thread and follow its points in this one.

    Signals arrive in the main thread, which is this one. Whatever a signal raises here stops the other thread first and
    is then raised again.
    """
    stop = threading.Event()
    points = _Points(tasks.say)
    followed: set[str] = set()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(
            run_sweep,
            plan,
            root=tasks.root,
            say=tasks.say,
            on_line=points.write_line,
            cancelled=stop,
            on_point=points.update,
        )
        try:
            while (point := points.next_to_follow(followed)) or not future.done():
                if point:
                    followed.add(point.name)
                    tasks.run(f"{point.name} {point.point.title}", partial(points.follow, point.name, tasks, future))
                else:
                    time.sleep(_POLL_SECONDS)
        except BaseException:
            stop.set()
            raise
    return future.result()


class _Points:
    """The states of the points of a running sweep: its threads write them, the thread of the flow reads them."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._logs = say, dict[str, Callable[[str], None]]()
        self._points: dict[str, SweepPoint] = {}

    def update(self, point: SweepPoint) -> None:
        """Store the new state of a point."""
        self._points[point.name] = point

    def write_line(self, line: str) -> None:
        """Write a line of a point to its task's log, without the point's name; to the flow's log before that exists."""
        name, _, text = line.partition(" | ")
        log = self._logs.get(name)
        if log:
            log(text)
        else:
            self._say(line)

    def next_to_follow(self, followed: set[str]) -> SweepPoint | None:
        """Return the first point that has started, or was done before, and that no task follows yet."""
        return next((p for name, p in list(self._points.items()) if p.state != WAITING and name not in followed), None)

    def follow(self, name: str, tasks: Tasks, future: Future[SweepResult]) -> State:
        """Wait in a point's task until the point has ended, and return the state of the task."""
        self._logs[name] = tasks.log()
        while self._points[name].state == RUNNING and not future.done():
            time.sleep(_POLL_SECONDS)
        point = self._points[name]
        message = tasks.hide(point.line())
        if point.experiment is None:
            return Failed(message=message) if point.state == FAILED else Cancelled(name="Stopped", message=message)
        return Completed(name="Cached" if point.state == DONE_BEFORE else "Ran", message=message)
