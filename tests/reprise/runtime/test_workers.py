"""Workers: results in order, and every end of a process told apart from the others."""

from __future__ import annotations

import os
import signal
from functools import partial
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pytest

from reprise.config.errors import MachineError
from reprise.runtime import workers as module
from reprise.runtime.workers import Lost, NoProcessError, Workers
from tests.reprise.runtime import tasks


def pool(count: int = 2, prepare: object = tasks.nothing) -> Workers:
    return Workers(tasks.do, prepare, count)


def children() -> set[int]:
    return {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}


def test_results_come_in_the_order_of_the_tasks_and_no_process_stays() -> None:
    before = children()
    work = [("sleep", 0.05 if n % 3 == 0 else 0.0) for n in range(12)]
    with pool() as both:
        assert list(both.run(work, 60)) == [seconds for _, seconds in work]
        assert len(children() - before) >= 2
        assert list(both.run([("value", n) for n in range(100)], 60)) == list(range(100))
        assert list(both.run([], 60)) == []
    assert len(children() - before) <= 1  # the resource tracker of the standard library


def test_a_lost_task_says_how_its_process_ended_and_costs_no_other() -> None:
    work = [("value", n) for n in range(8)]
    ends = {1: ("signal", signal.SIGKILL), 3: ("signal", signal.SIGSEGV), 4: ("exit", 3), 6: ("sleep", 60)}
    with pool() as both:
        found = list(both.run([ends.get(n, task) for n, task in enumerate(work)], 1.0))
    assert [value for value in found if not isinstance(value, Lost)] == [0, 2, 5, 7]
    lost = {n: value for n, value in enumerate(found) if isinstance(value, Lost)}
    assert {n: value.status for n, value in lost.items()} == {1: -9, 3: -11, 4: 3, 6: None}
    assert [n for n, value in lost.items() if value.killed] == [1]
    assert [str(lost[n]) for n in (1, 4, 6)] == [
        "its process was ended by SIGKILL",
        "its process ended with exit status 3",
        "it did not end in time",
    ]


def test_a_task_alone_has_a_process_of_its_own_and_survives_the_next_attempt(tmp_path: Path) -> None:
    with pool() as both:
        shared = set(both.run([("process", None)] * 4, 60))
        alone = both.alone(("process", None), 60)
        assert alone not in shared
        assert both.alone(("process", None), 60) == alone
        assert both.alone(("process", None), 60, fresh=True) != alone
        first = both.alone(("first signal", tmp_path / "mark"), 60)
        assert isinstance(first, Lost)
        assert both.alone(("first signal", tmp_path / "mark"), 60) == tmp_path / "mark"


def test_exceptions_of_tasks_are_raised_here() -> None:
    with pool(1) as one, pytest.raises(LookupError, match="the reason"):
        list(one.run([("raise", "the reason")], 60))


def test_a_process_that_cannot_prepare_says_why() -> None:
    with (
        pool(prepare=tasks.no_library) as both,
        pytest.raises(MachineError, match=r"ImportError: libGL\.so\.1") as caught,
    ):
        list(both.run([("value", 1)], 60))
    assert "the data were not looked at" in str(caught.value)


def test_processes_that_end_before_they_begin_are_the_machines_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAUSE", 0.0)
    monkeypatch.setattr(module, "_STARTS_KILLED", 3)
    with pool(prepare=partial(tasks.killed_at_first, str(tmp_path), 2)) as both:
        assert list(both.run([("value", 1)], 60)) == [1]  # two kills in a row are borne
    with pool(1, tasks.killed_at_start) as one, pytest.raises(MachineError, match="3 attempts in a row.*SIGKILL"):
        list(one.run([("value", 1)], 60))


def test_where_the_system_starts_no_process_the_caller_is_told_and_fewer_are_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start, allowed = SpawnProcess.start, [1]

    def limited(process: SpawnProcess) -> None:
        if not allowed[0]:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        allowed[0] -= 1
        start(process)

    monkeypatch.setattr(SpawnProcess, "start", limited)
    with pool(4) as one:
        assert len(set(one.run([("process", None)] * 6, 60))) == 1
    with pool(4) as none, pytest.raises(NoProcessError, match=r"Resource temporarily unavailable.*ulimit -a"):
        list(none.run([("value", 1)], 60))


def test_neither_semaphores_nor_shared_memory_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container without /dev/shm has no semaphores: the standard library's pools end there with an OSError."""
    import _multiprocessing

    def missing(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(_multiprocessing, "SemLock", missing)
    with pool(1) as one:
        assert list(one.run([("value", 1)], 60)) == [1]
