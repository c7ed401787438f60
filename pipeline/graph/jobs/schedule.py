"""Run stages as soon as those that they depend on have ended, as many at once as the machine has room for.

Of several stages that could begin, the one with the longest way to the end of the graph begins first. The order decides
when things happen, and never what comes out.
"""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from pipeline.graph.definition import Graph
from pipeline.graph.jobs.machine import Demand, Machine
from pipeline.processes.signals import signals_without_handler, stopping_on_signals
from reprise.config.dvc_file import Stage
from reprise.runtime.interrupts import patience
from reprise.storage.running import report_step

_LOOK_SECONDS = 0.2  # signals are handled between two looks


class Work(NamedTuple):
    """What the scheduler asks of whoever knows the stages.

    Attributes:
        settle: ends a stage without a process, in the calling thread: one that is up to date, or whose inputs failed.
            It returns whether it has done so.
        run: runs a stage in a thread of its own, given environment variables and an event that asks it to end. It
            returns whether the stage succeeded.
    """

    settle: Callable[[Stage], bool]
    run: Callable[[Stage, Mapping[str, str], threading.Event], bool]


def run_in_parallel(
    graph: Graph,
    stages: Sequence[Stage],
    work: Work,
    machine: Machine,
    *,
    demands: Mapping[str, Demand],
    seconds: Mapping[str, float],
    fail_fast: bool = False,
) -> None:
    """Run stages, each after those among them that it depends on.

    Args:
        graph: the graph.
        stages: in graph order.
        work: what to do with a stage.
        machine: what there is to run them on.
        demands: what stages need, by name.
        seconds: how long stages are expected to take, by name; others count as one second.
        fail_fast: whether the first failure ends the stages that run, and lets none begin. Otherwise all stages go on
            that do not depend on the one that failed.

    Raises:
        KeyboardInterrupt: after SIGINT, once all stages have ended.
        SystemExit: after SIGTERM or SIGHUP, once all stages have ended.
        BaseException: what `work` or an existing signal handler raises, once all stages have ended.
    """
    names = {stage.name for stage in stages}
    above = {stage.name: graph.upstream(stage.name) & names for stage in stages}
    _Run(_by_urgency(stages, above, seconds), above, work, machine, demands, fail_fast).run()


class _Run:
    def __init__(
        self,
        stages: Sequence[Stage],
        above: Mapping[str, frozenset[str]],
        work: Work,
        machine: Machine,
        demands: Mapping[str, Demand],
        fail_fast: bool,
    ) -> None:
        self._above = above
        self._waiting = list(stages)
        self._running: list[str] = []
        self._of, self._ran = len(stages), list[str]()
        self._ended: set[str] = set()
        self._results: queue.SimpleQueue[tuple[str, bool | BaseException]] = queue.SimpleQueue()
        self._work, self._machine, self._demands, self._fail_fast = work, machine, demands, fail_fast
        self._stop = threading.Event()
        self._errors: list[BaseException] = []

    def run(self) -> None:
        with stopping_on_signals(self._stop, signals_without_handler()), patience():
            try:
                self._start_all_that_can()
                while self._running:
                    self._await_one()
                    self._start_all_that_can()
            except BaseException:
                self._stop.set()
                while self._running:
                    self._await_one()
                raise
        if self._errors:
            raise self._errors[0]

    def _start_all_that_can(self) -> None:
        while self._start_or_settle_one() and not self._stop.is_set():
            pass

    def _start_or_settle_one(self) -> bool:
        for stage in self._waiting:
            if self._stop.is_set() or not self._above[stage.name] <= self._ended:
                continue
            settled = self._work.settle(stage)
            variables = None if settled else self._machine.take(stage.name, self._demands.get(stage.name, Demand()))
            if not settled and variables is None:
                continue
            self._waiting.remove(stage)
            if variables is None:
                self._ended.add(stage.name)
            else:
                self._start(stage, variables)
            return True
        return False

    def _start(self, stage: Stage, variables: Mapping[str, str]) -> None:
        self._running.append(stage.name)
        self._report()
        context = contextvars.copy_context()  # Prefect keeps there which flow a task belongs to

        def run() -> None:
            try:
                self._results.put((stage.name, context.run(self._work.run, stage, variables, self._stop)))
            except BaseException as error:  # noqa: BLE001 - the waiting thread raises it
                self._results.put((stage.name, error))

        threading.Thread(target=run, name=stage.title).start()

    def _report(self) -> None:
        """Tell `reprise status` which stages run."""
        if not self._running:
            return
        *beside, last = self._running
        report_step(
            self._of - len(self._waiting),
            self._of,
            last,
            waiting=[stage.name for stage in self._waiting],
            ran=self._ran,
            beside=beside,
            at_once=self._machine.jobs,
        )

    def _await_one(self) -> None:
        while True:
            try:
                name, result = self._results.get(timeout=_LOOK_SECONDS)
                break
            except queue.Empty:
                continue
        self._running.remove(name)
        self._ran.append(name)
        self._ended.add(name)
        self._machine.give_back(name)
        if isinstance(result, BaseException):
            self._errors.append(result)
        if isinstance(result, BaseException) or (self._fail_fast and not result):
            self._stop.set()
        self._report()


def _by_urgency(
    stages: Sequence[Stage], above: Mapping[str, frozenset[str]], seconds: Mapping[str, float]
) -> list[Stage]:
    """Sort stages by the time from their beginning to the end of all that needs them, the longest first."""
    after: dict[str, float] = {}  # seconds that all which needs a stage takes behind it
    to_the_end: dict[str, float] = {}
    for stage in reversed(stages):
        to_the_end[stage.name] = seconds.get(stage.name, 1.0) + after.get(stage.name, 0.0)
        for name in above[stage.name]:
            after[name] = max(after.get(name, 0.0), to_the_end[stage.name])
    return sorted(stages, key=lambda stage: -to_the_end[stage.name])
