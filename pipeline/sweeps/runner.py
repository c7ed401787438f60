"""Sweeps: parameter changes x seeds, each point a DVC experiment on one commit, then compared by the rules of DESIGN.

Every point runs in a clone of its own (`pipeline.sweeps.clone`), so the folder stays as it is whatever happens. What
an earlier attempt finished is not run again: a whole point is found by its experiment, a stage by DVC's run-cache,
half a training by its checkpoint. A point that fails does not stop the rest.
"""

from __future__ import annotations

import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from pipeline.compare.runs import stated_family
from pipeline.graph import dvc
from pipeline.graph.workspace import Say, exclusive
from pipeline.processes.failure import message_of
from pipeline.processes.processes import CommandFailed, capture
from pipeline.processes.redaction import redactor
from pipeline.sweeps.clone import SWEEPS, Base, Tree, base_of_folder, table_of
from pipeline.sweeps.plans import Point, SweepPlan, base_of, load_plan, points_of
from pipeline.sweeps.report import Comparison, compare_points
from reprise.config.errors import RepriseError, WorkspaceBusyError

__all__ = ["SweepPlan", "SweepPoint", "SweepResult", "experiments", "forget", "load_plan", "run_sweep"]

WAITING, RUNNING, DONE, FOUND, FAILED, STOPPED = "waiting", "running", "done", "done before", "failed", "stopped"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
OnPoint = Callable[["SweepPoint"], None]


@dataclass(frozen=True)
class SweepPoint:
    """What became of one point.

    Attributes:
        state: "waiting", "running", "done", "done before", "failed" or "stopped".
        seconds: of this attempt. message: why it failed; empty otherwise.
        experiment: commit of the experiment, once done.
    """

    point: Point
    state: str = WAITING
    seconds: float = 0.0
    message: str = ""
    experiment: str | None = None

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self.point.name

    @property
    def changes(self) -> dict[str, object]:
        """What it changes in params.yaml."""
        return self.point.changes

    def line(self) -> str:
        """For a terminal."""
        spent = f" in {self.seconds:.0f} s" if self.seconds else ""
        return f"{self.name} ({self.point.title}): {self.state}{spent}{': ' + self.message if self.message else ''}"


@dataclass(frozen=True)
class SweepResult:
    """All points, and what may be said about them."""

    plan: SweepPlan
    revision: str
    points: tuple[SweepPoint, ...]
    comparison: Comparison

    @property
    def failed(self) -> tuple[SweepPoint, ...]:
        """Points that failed."""
        return tuple(point for point in self.points if point.state == FAILED)

    @property
    def complete(self) -> bool:
        """Whether every point is done."""
        return all(point.experiment for point in self.points)

    def markdown(self) -> str:
        """The points, their figures and the verdicts, as one page."""
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
    """Run what is not done yet of a plan, on the commit that is checked out, and compare all that is.

    The first point runs alone, since what it computes often serves the others; then `plan.parallel` at once.

    Args:
        say: gets a line for people about each point as it starts and ends.
        on_line: gets what the stages write, each line with the point's name before it.
        cancelled: set from another thread to stop; what ran continues at the next call.
        on_point: called from worker threads, one call at a time, when a point changes its state.
        wait: wait for another sweep in this folder instead of giving up.

    Raises:
        SweepError: no commit, or uncommitted changes. ResultError: no such metric.
        WorkspaceBusyError: another sweep works here and `wait` is false.
        KeyboardInterrupt, SystemExit: after a signal, once everything has ended.
    """
    root = root.resolve()
    with _alone(root, wait, say):
        base_of_folder(root)  # refuse early
        _look_at_source(root, say)
        base = base_of_folder(root)
        points = points_of(plan, base.source)
        run = _Run(base, dvc.cache_folder(root), [_known(base, point) for point in points], say, on_line, on_point)
        for i in range(len(points)):
            run.tell(i)
        with _stopping(cancelled) as stop:
            run.all(plan.parallel, stop)
        tables = {p.name: table_of(root, p.experiment) for p in run.points if p.experiment}
        metric = plan.metric or f"{stated_family(root).removesuffix('_val')}_val"
        titles = {p.name: p.point.title for p in run.points}
        first = points[base_of(plan)].name
        return SweepResult(plan, base.commit, tuple(run.points), compare_points(tables, titles, first, metric))


def experiments(plan: SweepPlan, root: Path = Path()) -> list[SweepPoint]:
    """The points of a plan and which of them are done, without running anything."""
    base = base_of_folder(root)
    return [_known(base, point) for point in points_of(plan, base.source)]


def forget(plan: SweepPlan, root: Path = Path()) -> list[str]:
    """Remove a plan's experiments on this commit, and what unfinished ones left. DVC's cache keeps the results.

    Returns:
        Names of what was removed.
    """
    root = root.resolve()
    removed = []
    with _alone(root, False, lambda line: None):
        base = base_of_folder(root)
        for point in points_of(plan, base.source):
            tree = Tree(base, point, Path())
            if tree.home.exists() or base.experiment(point.name):
                removed.append(point.name)
            tree.clear(everything=True)
            if base.experiment(point.name):
                capture(["git", "update-ref", "-d", base.ref(point.name)], cwd=root)
    return removed


class _Run:
    """The points of one call, worked off by threads."""

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
        self._hide, self._telling = redactor(base.root), threading.Lock()

    def tell(self, i: int) -> None:
        point = self.points[i]
        with self._telling:
            if point.state != WAITING:
                self._say(f"[{i + 1}/{len(self.points)}] {point.line()}")
            if self._on_point:
                self._on_point(point)

    def all(self, parallel: int, stop: threading.Event) -> None:
        """Every point that is not done: the first alone, then `parallel` at once."""
        todo = [i for i, point in enumerate(self.points) if point.state == WAITING]
        alone = todo[:1] if todo[:1] == [0] else []
        self._some(alone, 1, stop)
        self._some(todo[len(alone) :], parallel, stop)

    def _some(self, todo: list[int], parallel: int, stop: threading.Event) -> None:
        waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        for i in todo:
            waiting.put(i)
        errors: list[BaseException] = []

        def work() -> None:
            try:
                with suppress(queue.Empty):
                    while True:
                        self._one(waiting.get_nowait(), stop)
            except BaseException as error:  # noqa: BLE001 — raised again by the thread that waits
                errors.append(error)
                stop.set()

        threads = [threading.Thread(target=work, name=f"sweep-{n}") for n in range(min(parallel, len(todo)))]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():  # in steps, so that signals are handled meanwhile
                thread.join(0.2)
        if errors:
            raise errors[0]

    def _one(self, i: int, stop: threading.Event) -> None:
        if stop.is_set():
            self._becomes(i, STOPPED)
            return
        self._becomes(i, RUNNING)
        tree = Tree(self.base, self.points[i].point, self.cache)
        began = time.monotonic()
        try:
            tree.make()
            with tree.log.open("w", buffering=1, encoding="utf-8") as log:  # a person may follow it
                tree.run(self._writer(tree.point.name, log.write), stop)
            experiment = tree.save()
        except (RepriseError, CommandFailed) as error:
            spent = time.monotonic() - began
            if stop.is_set():
                self._becomes(i, STOPPED, seconds=spent)
            else:
                said = message_of(error) if isinstance(error, CommandFailed) else str(error)
                self._becomes(i, FAILED, seconds=spent, message=self._hide(" ".join(said.split())))
                tree.clear(everything=False)
            return
        tree.clear(everything=True)
        self._becomes(i, DONE, seconds=time.monotonic() - began, experiment=experiment)

    def _becomes(self, i: int, state: str, **what: object) -> None:
        self.points[i] = replace(self.points[i], state=state, **what)  # type: ignore[arg-type]
        self.tell(i)

    def _writer(self, name: str, write: Callable[[str], object]) -> Callable[[str], None]:
        def each(line: str) -> None:
            shown = self._hide(line)
            write(shown + "\n")
            if self._on_line:
                self._on_line(f"{name} | {shown}")

        return each


def _known(base: Base, point: Point) -> SweepPoint:
    found = base.experiment(point.name)
    return SweepPoint(point, FOUND if found else WAITING, experiment=found)


def _look_at_source(root: Path, say: Say) -> None:
    """As before every run; where a run holds the folder it has just done so."""
    with suppress(WorkspaceBusyError), exclusive(root, wait=False, say=say):
        dvc.scan(root, on_line=say)


class _Stop(threading.Event):
    """Set by itself or by the caller's event."""

    def __init__(self, cancelled: threading.Event | None) -> None:
        super().__init__()
        self._cancelled = cancelled

    def is_set(self) -> bool:
        return super().is_set() or (self._cancelled is not None and self._cancelled.is_set())


@contextmanager
def _alone(root: Path, wait: bool, say: Say) -> Iterator[None]:
    """One sweep at a time in a folder."""
    try:
        with exclusive(root / SWEEPS, wait=wait, say=say):
            yield
    except WorkspaceBusyError as error:
        raise WorkspaceBusyError(
            "another sweep works in this folder",
            where=root / SWEEPS,
            found=error.found,
            fix="Wait until it ends, or let this one wait for it: `reprise sweep FILE --wait`.",
        ) from error


@contextmanager
def _stopping(cancelled: threading.Event | None) -> Iterator[threading.Event]:
    """An event that is set by `cancelled` or by a signal; a signal is raised again at the end."""
    stop = _Stop(cancelled)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    received: list[int] = []

    def note(signum: int, frame: FrameType | None) -> None:
        received.append(signum)
        stop.set()

    before = {number: signal.signal(number, note) for number in _SIGNALS}
    try:
        yield stop
    finally:
        for number, action in before.items():
            signal.signal(number, action)
    if received:
        raise KeyboardInterrupt if received[0] == signal.SIGINT else SystemExit(128 + received[0])
