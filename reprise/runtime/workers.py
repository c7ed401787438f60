"""Worker processes that do one task after the other, and tell a task that ends its process from a machine at fault.

A pool of the standard library breaks as a whole when one worker dies, and does not say which one or how. Here every
worker has a pipe of its own. So it is known which task a dead worker held, by which signal it ended, and whether it had
begun at all: a worker that never became ready says something about the machine and nothing about a task. Pipes need
neither semaphores nor /dev/shm, and no thread.

What a lost task means is for the caller to decide. `Workers.alone` does a task again in a process of its own while no
other task is under way.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, Self, TypeVar

from reprise.config.errors import MachineError

Task = TypeVar("Task")
Result = TypeVar("Result")
Prepare = Callable[[], None]

READY_SECONDS = 300.0  # imports from a slow shared disk take minutes
_AHEAD = 16  # tasks per worker that may be done before an earlier one is
_CRASHES = {
    *(signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP, signal.SIGSYS),
    *(signal.SIGPROF, signal.SIGXCPU),  # limits that a process has set on its own time
}
_STARTS_CRASHED, _STARTS_KILLED = 3, 12  # attempts to start a worker that ends by itself, or by another's signal
_PAUSE, _LONGEST_PAUSE = 0.1, 2.0  # seconds between attempts; the pause grows


@dataclass(frozen=True)
class Lost:
    """A task that ended its process, or was ended with it, before it was done.

    Attributes:
        status: exit status of the process, minus the signal's number where a signal ended it; None where the task took
            longer than allowed.
    """

    status: int | None

    @property
    def killed(self) -> bool:
        """Whether a signal ended the process that only others send (SIGKILL, SIGTERM), not a crash."""
        return self.status is not None and self.status < 0 and -self.status not in _CRASHES

    def __str__(self) -> str:
        if self.status is None:
            return "it did not end in time"
        if self.status >= 0:
            return f"its process ended with exit status {self.status}"
        try:
            return f"its process was ended by {signal.Signals(-self.status).name}"
        except ValueError:
            return f"its process was ended by signal {-self.status}"


class NoProcessError(MachineError):
    """The system starts no process at all: no process, memory or descriptor is left to this user."""


class Worker:
    """One process; its pipe carries a task at a time.

    Args:
        prepare: called in the process before it is ready; an importable function.

    Raises:
        NoProcessError: the system starts no process.
    """

    def __init__(self, prepare: Prepare) -> None:
        context = multiprocessing.get_context("spawn")
        mine: Connection | None = None
        theirs: Connection | None = None
        try:
            mine, theirs = context.Pipe()
            self._process = context.Process(target=_work, args=(theirs, prepare, os.getpid()), daemon=True)
            with without_interrupts():
                self._process.start()
        except OSError as error:
            for end in filter(None, (mine, theirs)):
                end.close()
            raise NoProcessError(
                "no worker process can be started",
                where="this machine",
                found=error.strerror or error,
                fix="Free processes, memory or open files (`ulimit -a` shows the limits).",
            ) from error
        theirs.close()
        self.connection = mine
        self.ready, self.busy_with, self.deadline = False, -1, time.monotonic() + READY_SECONDS

    def give(self, number: int, function: Callable[[Any], Any], task: Any, seconds: float) -> None:
        """Hand a task to a worker that is ready and idle."""
        self.busy_with, self.deadline = number, time.monotonic() + seconds
        with suppress(OSError):  # it has just died: the next `receive` says so
            self.connection.send((function, task))

    def receive(self) -> Any:
        """Return the next message, or a `Lost` when the process is gone."""
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            return self.end()

    def end(self, late: bool = False) -> Lost:
        """Kill the process if it lives, and say how it ended; `late`: it took longer than allowed."""
        if late:
            self._process.kill()
        self._process.join(2.0 if not late else None)  # its pipe closes a moment before its status is known
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
        lost = Lost(None if late else self._process.exitcode)
        self.connection.close()
        self._process.close()
        return lost


class Workers(Generic[Task, Result]):
    """Up to `count` workers for tasks of one function; a context manager that ends them all.

    Args:
        function: does a task; an importable function, whose exceptions are raised in the caller.
        prepare: called in every process before its first task; an importable function.
        count: of processes. Fewer are used where the system starts no more.

    Attributes:
        function, prepare: as given.
    """

    def __init__(self, function: Callable[[Task], Result], prepare: Prepare, count: int) -> None:
        self.function, self.prepare, self._count = function, prepare, count
        self._workers: list[Worker] = []
        self._single: Worker | None = None
        self._results: dict[int, Any] = {}
        self._failed_starts: list[Lost] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in (*self._workers, *filter(None, (self._single,))):
            worker.end(late=True)
        self._workers, self._single = [], None

    def run(self, tasks: Sequence[Task], seconds: float) -> Iterator[Result | Lost]:
        """Do all tasks and yield their results in the order of `tasks`; a `Lost` where a task lost its process.

        Args:
            tasks: each can be pickled.
            seconds: a task that takes longer is lost.

        Raises:
            NoProcessError: the system starts no process.
            MachineError: processes end before they are ready, or say why they cannot work.
        """
        given, wanted = 0, 0
        while wanted < len(tasks):
            while wanted in self._results:
                yield self._results.pop(wanted)
                wanted += 1
            if wanted == len(tasks):
                return
            more = min(len(tasks), wanted + _AHEAD * self._count)
            self._start(more - given)
            for worker in self._workers:
                if worker.ready and worker.busy_with < 0 and given < more:
                    worker.give(given, self.function, tasks[given], seconds)
                    given += 1
            if wanted not in self._results:
                self._wait()

    def alone(
        self, task: Any, seconds: float, fresh: bool = False, function: Callable[[Any], Any] | None = None
    ) -> Any:
        """Do one task while no other is under way, and return its result or a `Lost`.

        Args:
            task: as in `run`.
            seconds: as in `run`.
            fresh: take a process that has done no other task.
            function: does this task instead of the one for all tasks.

        Raises:
            MachineError: as in `run`.
        """
        while any(worker.busy_with >= 0 for worker in self._workers):
            self._wait()
        if fresh and self._single is not None:
            self._single.end(late=True)
            self._single = None
        while True:
            if self._single is None:
                self._single = self._begun()
            worker = self._single
            if worker.ready:
                worker.give(0, function or self.function, task, seconds)
            message = worker.receive() if _heard([worker]) else worker.end(late=True)
            if isinstance(message, Lost):
                self._single = None
                if worker.ready:
                    return message
                self._start_failed(message)
            elif _opened(worker, message):
                self._failed_starts.clear()
            else:
                worker.busy_with = -1
                return _value(message)

    def _start(self, open_tasks: int) -> None:
        """Start workers until there are as many as are of use; where the system starts no more, those there do."""
        while len(self._workers) < min(self._count, max(1, open_tasks + self._busy())):
            try:
                self._workers.append(self._begun())
            except NoProcessError:
                if not self._workers:
                    raise
                self._count = len(self._workers)

    def _busy(self) -> int:
        return sum(worker.busy_with >= 0 for worker in self._workers)

    def _begun(self) -> Worker:
        if self._failed_starts:
            time.sleep(min(_LONGEST_PAUSE, _PAUSE * 2 ** len(self._failed_starts)))
        return Worker(self.prepare)

    def _wait(self) -> None:
        """Wait for one message or death, or for the earliest deadline of a worker that is busy or not yet ready."""
        heard = _heard(self._workers)
        now = time.monotonic()
        for worker in list(self._workers):
            if worker in heard:
                message = worker.receive()
            elif worker.deadline < now and (worker.busy_with >= 0 or not worker.ready):
                message = worker.end(late=True)
            else:
                continue
            if isinstance(message, Lost):
                self._workers.remove(worker)
                if worker.busy_with >= 0:
                    self._results[worker.busy_with] = message
                elif not worker.ready:
                    self._start_failed(message)
            elif _opened(worker, message):
                self._failed_starts.clear()
            else:
                self._results[worker.busy_with] = _value(message)
                worker.busy_with = -1

    def _start_failed(self, lost: Lost) -> None:
        """Count a worker that ended before it was ready.

        Raises:
            MachineError: that happened too often in a row.
        """
        self._failed_starts.append(lost)
        allowed = _STARTS_KILLED if lost.killed else _STARTS_CRASHED
        if len(self._failed_starts) >= allowed:
            raise MachineError(
                "worker processes end before they begin to work",
                where="this machine",
                found=f"{len(self._failed_starts)} attempts in a row; of the last one, {lost}",
                fix="Look for what ends them (memory: `dmesg`; limits: `ulimit -a`); the data were not looked at.",
            )


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach, not even before `_work` begins: this process ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # a new process takes over what is blocked
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _heard(workers: Sequence[Worker]) -> list[Worker]:
    """Return the workers with a message or an end to tell, none once the earliest deadline has passed."""
    waiting = [w.deadline for w in workers if w.busy_with >= 0 or not w.ready]
    timeout = max(0.0, min(waiting) - time.monotonic()) if waiting else None
    heard = wait([worker.connection for worker in workers], timeout)
    return [worker for worker in workers if worker.connection in heard]


def _opened(worker: Worker, message: Any) -> bool:
    """Tell whether a message is the first one of a worker, and note that it is ready.

    Raises:
        MachineError: the worker cannot work, and says why.
    """
    if worker.ready:
        return False
    kind, found = message
    if kind != "ready":
        raise MachineError(
            "worker processes cannot begin to work",
            where="this machine",
            found=found,
            fix="Repair the installation (a library may be missing), or free memory; the data were not looked at.",
        )
    worker.ready = True
    return True


def _value(message: tuple[str, Any]) -> Any:
    kind, value = message
    if kind == "raised":
        raise value
    return value


def _work(connection: Connection, prepare: Prepare, parent: int) -> None:
    """Run in the worker: prepare, then answer tasks until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends this process
    try:
        prepare()
        if os.getppid() != parent:  # the parent died before this process could ask to end with it
            os._exit(1)
        connection.send(("ready", None))
    except BaseException as error:  # noqa: BLE001  whatever it is, the parent names it
        connection.send(("failed", f"{type(error).__name__}: {error}"))
        return
    while True:
        try:
            function, task = connection.recv()
        except EOFError:
            return
        try:
            answer = ("done", function(task))
        except Exception as error:  # noqa: BLE001  raised again in the parent
            answer = ("raised", error)
        try:
            connection.send(answer)
        except (TypeError, AttributeError, pickle.PicklingError):  # an exception that cannot leave this process
            connection.send(("raised", RuntimeError(repr(answer[1]))))
