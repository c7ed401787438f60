"""A sweep under Prefect: each point a task while it runs, with what its stages write, and the comparison at the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Failed

from pipeline.flows.tasks import Tasks
from pipeline.sweeps.runner import FAILED, FOUND, RUNNING, WAITING, SweepPlan, SweepPoint, SweepResult, run_sweep
from reprise.config.errors import WorkspaceBusyError

_LOOK_SECONDS = 2.0
_STEP_SECONDS = 0.2  # between looks at a thread, so that signals are handled meanwhile


class _Points:
    """Where the points of a running sweep stand, told by its threads and read by the one that shows them."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._logs = say, dict[str, Callable[[str], None]]()
        self.all: dict[str, SweepPoint] = {}

    def moved(self, point: SweepPoint) -> None:
        self.all[point.name] = point

    def wrote(self, line: str) -> None:
        """A line of a point goes to its task's log once there is one, without the point's name."""
        name, _, text = line.partition(" | ")
        log = self._logs.get(name)
        if log:
            log(text)
        else:
            self._say(line)

    def begun(self, shown: set[str]) -> SweepPoint | None:
        """The first point that has begun, or was done before, and is not shown yet."""
        return next((p for name, p in list(self.all.items()) if p.state != WAITING and name not in shown), None)

    def follow(self, name: str, tasks: Tasks, future: Future[SweepResult]) -> State:
        """Wait in a point's task until the point has ended, and tell how."""
        self._logs[name] = tasks.log()
        while self.all[name].state == RUNNING and not future.done():
            time.sleep(_STEP_SECONDS)
        point = self.all[name]
        message = tasks.hide(point.line())
        if point.experiment is None:
            return Failed(message=message) if point.state == FAILED else Cancelled(name="Stopped", message=message)
        return Completed(name="Cached" if point.state == FOUND else "Ran", message=message)


def swept(plan: SweepPlan, tasks: Tasks, *, wait: bool) -> State:
    """Run a plan and show it; `wait` for another sweep in this folder, or raise WorkspaceBusyError."""
    told = False
    while True:
        try:
            result = _shown(plan, tasks)
            break
        except WorkspaceBusyError as error:
            if not wait:
                raise
            if not told:
                tasks.say(f"waiting for another sweep in this folder: {error.found}")
            told = True
            time.sleep(_LOOK_SECONDS)
    tasks.markdown("sweep", result.markdown(), "points, figures and verdicts")
    done = f"{sum(point.experiment is not None for point in result.points)} of {len(result.points)} points done"
    if result.failed:
        failures = "; ".join(f"{point.name}: {point.message}" for point in result.failed)
        return Failed(message=tasks.hide(f"{done}; {failures}"))
    return Completed(message=done)


def _shown(plan: SweepPlan, tasks: Tasks) -> SweepResult:
    """Run the plan in another thread, which is told to stop before what a signal raises in this one goes on its way."""
    stop = threading.Event()
    points = _Points(tasks.say)
    shown: set[str] = set()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(
            run_sweep,
            plan,
            root=tasks.root,
            say=tasks.say,
            on_line=points.wrote,
            cancelled=stop,
            on_point=points.moved,
        )
        try:
            while (point := points.begun(shown)) or not future.done():
                if point:
                    shown.add(point.name)
                    tasks.run(f"{point.name} {point.point.title}", partial(points.follow, point.name, tasks, future))
                else:
                    time.sleep(_STEP_SECONDS)
        except BaseException:
            stop.set()
            raise
    return future.result()
