"""Run a sweep: parameter changes times seeds, each point a DVC experiment on one commit, then compared on val.

Every point runs in a clone of its own (`pipeline.sweeps.clone`), so the project folder never changes. What an earlier
attempt finished is not run again: a finished point is found by its experiment, a finished stage by DVC's run cache, an
unfinished training by its checkpoint. A point that fails does not stop the others.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.compare.runs import read_family
from pipeline.graph import dvc
from pipeline.graph.stage_modules import scan
from pipeline.graph.workspace import SWEEPS, Say, exclusive
from pipeline.processes.commands import CommandFailed
from pipeline.processes.failure import failure_message
from pipeline.processes.git import git
from pipeline.processes.redaction import make_redactor
from pipeline.processes.signals import stopping_on_signals
from pipeline.sweeps.clone import Base, PointClone, find_base, load_table
from pipeline.sweeps.curve import Axis
from pipeline.sweeps.plans import Point, SweepPlan, base_index, load_plan, points_of
from pipeline.sweeps.report import Comparison, compare_points
from reprise.config.errors import RepriseError, WorkspaceBusyError
from reprise.runtime.interrupts import patience
from reprise.storage.running import report_step

__all__ = ["SweepPlan", "SweepPoint", "SweepResult", "forget", "list_points", "load_plan", "run_sweep"]

WAITING, RUNNING, DONE, DONE_BEFORE, FAILED, STOPPED = "waiting", "running", "done", "done before", "failed", "stopped"

OnPoint = Callable[["SweepPoint"], None]


@dataclass(frozen=True)
class SweepPoint:
    """The state of one point.

    Attributes:
        point: the point.
        state: "waiting", "running", "done", "done before", "failed" or "stopped".
        seconds: duration of this attempt.
        message: why the point failed; empty otherwise.
        experiment: commit of the experiment once the point is done.
    """

    point: Point
    state: str = WAITING
    seconds: float = 0.0
    message: str = ""
    experiment: str | None = None

    @property
    def name(self) -> str:
        """The name of the experiment."""
        return self.point.name

    @property
    def changes(self) -> dict[str, object]:
        """The changes in params.yaml."""
        return self.point.changes

    def line(self) -> str:
        """Return a line for a terminal."""
        duration = f" in {self.seconds:.0f} s" if self.seconds else ""
        return f"{self.name} ({self.point.title}): {self.state}{duration}{': ' + self.message if self.message else ''}"


@dataclass(frozen=True)
class SweepResult:
    """The result of a sweep.

    Attributes:
        plan: the plan.
        revision: the commit that the sweep started from.
        points: the states of all points.
        comparison: the comparison of the points that are done.
    """

    plan: SweepPlan
    revision: str
    points: tuple[SweepPoint, ...]
    comparison: Comparison

    @property
    def failed(self) -> tuple[SweepPoint, ...]:
        """The points that failed."""
        return tuple(point for point in self.points if point.state == FAILED)

    @property
    def complete(self) -> bool:
        """Whether every point is done."""
        return all(point.experiment for point in self.points)

    def markdown(self) -> str:
        """Return a Markdown page with the points, their figures and the verdicts."""
        rows = [(p.name, p.point.title, p.state, p.seconds, p.message) for p in self.points]
        return self.comparison.markdown(self.plan.name, self.revision, rows)


def run_sweep(
    plan: SweepPlan,
    *,
    root: Path = Path(),
    say: Say = print,
    on_line: Callable[[str], None] | None = None,
    cancelled: threading.Event | None = None,
    on_point: OnPoint | None = None,
    wait: bool = False,
) -> SweepResult:
    """Run the points of a plan that are not done yet, on the commit that is checked out, and compare those that are.

    The first point runs alone, because the others can often reuse what it computes; then `plan.parallel` run at once.

    Args:
        plan: the plan.
        root: the project folder.
        say: gets a line for people when a point starts or ends.
        on_line: gets the output of the stages, each line preceded by the name of the point.
        cancelled: stops the sweep when another thread sets it; the next call continues from there.
        on_point: called when a point changes its state, from worker threads, one call at a time.
        wait: whether to wait for another sweep in this folder instead of giving up.

    Raises:
        SweepError: there is no commit, or there are uncommitted changes.
        ResultError: no point has the metric.
        WorkspaceBusyError: another sweep works in this folder and `wait` is false.
        KeyboardInterrupt: after SIGINT, once all processes have ended.
        SystemExit: after SIGTERM or SIGHUP, once all processes have ended.
    """
    root = root.resolve()
    with _hold_sweep_lock(root, wait, say):
        find_base(root)  # refuse uncommitted changes before the scan, which may take a while
        _scan_source(root, say)
        base = find_base(root)
        points = points_of(plan, base.source)
        run = _SweepRun(
            base, dvc.cache_folder(root), [_look_up_point(base, point) for point in points], say, on_line, on_point
        )
        for i in range(len(points)):
            run.report_point(i)
        stop = _Stop(cancelled)
        with stopping_on_signals(stop), patience():
            run.run_all(plan.parallel, stop)
        tables = {p.name: load_table(root, p.experiment) for p in run.points if p.experiment}
        metric = plan.metric or f"{read_family(root).removesuffix('_val')}_val"
        titles = {p.name: p.point.title for p in run.points}
        first = points[base_index(plan)].name
        comparison = compare_points(tables, titles, first, metric, axis=_axis(plan, points))
        return SweepResult(plan, base.commit, tuple(run.points), comparison)


def _axis(plan: SweepPlan, points: Sequence[Point]) -> Axis | None:
    """Return what the figures are shown over; None where the plan names nothing."""
    if plan.curve is None:
        return None
    return Axis(plan.curve, {point.name: float(point.changes[plan.curve]) for point in points}, plan.reference)


def list_points(plan: SweepPlan, root: Path = Path()) -> list[SweepPoint]:
    """List the points of a plan and which of them are done, without running anything."""
    base = find_base(root)
    return [_look_up_point(base, point) for point in points_of(plan, base.source)]


def forget(plan: SweepPlan, root: Path = Path()) -> list[str]:
    """Remove a plan's experiments on this commit, and what unfinished points left; DVC's cache keeps the results.

    Returns:
        The names of the points that were removed.
    """
    root = root.resolve()
    removed = []
    with _hold_sweep_lock(root, False, lambda line: None):
        base = find_base(root)
        for point in points_of(plan, base.source):
            clone = PointClone(base, point, Path())
            if clone.folder.exists() or base.experiment(point.name):
                removed.append(point.name)
            clone.clear(everything=True)
            if base.experiment(point.name):
                git("update-ref", "-d", base.ref(point.name), cwd=root)
    return removed


class _SweepRun:
    """The points of one call of `run_sweep`, which threads work through."""

    def __init__(
        self,
        base: Base,
        cache: Path,
        points: list[SweepPoint],
        say: Say,
        on_line: Callable[[str], None] | None,
        on_point: OnPoint | None,
    ) -> None:
        self.base, self.cache, self.points = base, cache, points
        self._say, self._on_line, self._on_point = say, on_line, on_point
        self._hide, self._report_lock = make_redactor(base.root), threading.Lock()

    def report_point(self, i: int) -> None:
        """Report the state of a point to `say` and `on_point`."""
        point = self.points[i]
        with self._report_lock:
            if point.state != WAITING:
                self._report_step()
                self._say(f"[{i + 1}/{len(self.points)}] {point.line()}")
            if self._on_point:
                self._on_point(point)

    def _report_step(self) -> None:
        """Tell `reprise status` which points run, and how many have ended."""
        running = [point.name for point in self.points if point.state == RUNNING]
        ended = sum(point.state not in (WAITING, RUNNING) for point in self.points)
        if running:
            report_step(ended + 1, len(self.points), ", ".join(running), unit="point")

    def run_all(self, parallel: int, stop: threading.Event) -> None:
        """Run every point that is not done: the first point of the plan alone, then `parallel` at once."""
        pending = [i for i, point in enumerate(self.points) if point.state == WAITING]
        alone = pending[:1] if pending[:1] == [0] else []
        self._run_points(alone, 1, stop)
        self._run_points(pending[len(alone) :], parallel, stop)

    def _run_points(self, pending: list[int], parallel: int, stop: threading.Event) -> None:
        waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        for i in pending:
            waiting.put(i)
        errors: list[BaseException] = []

        def work() -> None:
            try:
                with suppress(queue.Empty):
                    while True:
                        self._run_point(waiting.get_nowait(), stop)
            except BaseException as error:  # noqa: BLE001 — the waiting thread raises it again
                errors.append(error)
                stop.set()

        threads = [threading.Thread(target=work, name=f"sweep-{n}") for n in range(min(parallel, len(pending)))]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():  # short waits, because signals are handled between them
                thread.join(0.2)
        if errors:
            raise errors[0]

    def _run_point(self, i: int, stop: threading.Event) -> None:
        if stop.is_set():
            self._set_state(i, STOPPED)
            return
        self._set_state(i, RUNNING)
        clone = PointClone(self.base, self.points[i].point, self.cache)
        began = time.monotonic()
        try:
            clone.make()
            with clone.log.open("w", buffering=1, encoding="utf-8") as log:  # line by line: a person may follow it
                clone.run(self._line_writer(clone.point.name, log.write), stop)
            experiment = clone.save()
        except (RepriseError, CommandFailed) as error:
            seconds = time.monotonic() - began
            if stop.is_set():
                self._set_state(i, STOPPED, seconds=seconds)
            else:
                place = str(clone.log.relative_to(self.base.root))
                message = failure_message(error, place) if isinstance(error, CommandFailed) else str(error)
                self._set_state(i, FAILED, seconds=seconds, message=self._hide(" ".join(message.split())))
                clone.clear(everything=False)
            return
        clone.clear(everything=True)
        self._set_state(i, DONE, seconds=time.monotonic() - began, experiment=experiment)

    def _set_state(self, i: int, state: str, **fields: object) -> None:
        self.points[i] = replace(self.points[i], state=state, **fields)  # type: ignore[arg-type]
        self.report_point(i)

    def _line_writer(self, name: str, write: Callable[[str], object]) -> Callable[[str], None]:
        def write_line(line: str) -> None:
            hidden = self._hide(line)
            write(hidden + "\n")
            if self._on_line:
                self._on_line(f"{name} | {hidden}")

        return write_line


def _look_up_point(base: Base, point: Point) -> SweepPoint:
    experiment = base.experiment(point.name)
    return SweepPoint(point, DONE_BEFORE if experiment else WAITING, experiment=experiment)


def _scan_source(root: Path, say: Say) -> None:
    """Scan the source, unless a run holds the folder: that run has just scanned it."""
    with suppress(WorkspaceBusyError), exclusive(root, wait=False, say=say):
        scan(root, on_line=say)


class _Stop(threading.Event):
    """An event that also counts as set when the caller's event is set."""

    def __init__(self, cancelled: threading.Event | None) -> None:
        super().__init__()
        self._cancelled = cancelled

    def is_set(self) -> bool:
        return super().is_set() or (self._cancelled is not None and self._cancelled.is_set())


@contextmanager
def _hold_sweep_lock(root: Path, wait: bool, say: Say) -> Iterator[None]:
    """Allow one sweep at a time in a folder.

    Raises:
        WorkspaceBusyError: another sweep holds the lock and `wait` is false.
    """
    try:
        with exclusive(root / SWEEPS, wait=wait, say=say):
            yield
    except WorkspaceBusyError as error:
        raise WorkspaceBusyError(
            "another sweep works in this folder",
            where=root / SWEEPS,
            found=error.found,
            fix="Wait until it ends, or let this sweep wait for it: `reprise sweep FILE --wait`.",
        ) from error
