"""Which stages run at once, in which order, and what becomes of the others after a failure or a signal."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from random import Random

import pytest

from pipeline.graph.definition import Graph
from pipeline.graph.jobs.machine import GPUS, SHARERS, Demand, Machine, visible_gpus
from pipeline.graph.jobs.schedule import Work, run_in_parallel
from reprise.config.dvc_file import Stage
from reprise.runtime.entry import WORKERS

GIB = 1 << 30


def stage(name: str, *above: str) -> Stage:
    return Stage(name, name, name, (), "", f"make {name}", tuple(f"data/{up}" for up in above), (), (f"data/{name}",))


DIAMOND = Graph((stage("a"), stage("b", "a"), stage("c", "a"), stage("d", "b", "c"), stage("alone")))


class Recorder:
    """Runs stages that only wait, and notes what ran beside what."""

    def __init__(self, failing: Sequence[str] = (), settled: Sequence[str] = (), pause: float = 0.0) -> None:
        self.failing, self.settled, self.pause = set(failing), set(settled), pause
        self.began: list[str] = []
        self.ended: list[str] = []
        self.at_once: list[set[str]] = []
        self.variables: dict[str, Mapping[str, str]] = {}
        self._running: set[str] = set()
        self._lock = threading.Lock()

    def settle(self, stage: Stage) -> bool:
        if stage.name in self.settled or (set(stage.deps) & {f"data/{name}" for name in self.failing}):
            self.failing |= {stage.name} - self.settled
            return True
        return False

    def run(self, stage: Stage, variables: Mapping[str, str], cancelled: threading.Event) -> bool:
        with self._lock:
            self.began.append(stage.name)
            self.variables[stage.name] = variables
            self._running.add(stage.name)
            self.at_once.append(set(self._running))
        stopped = cancelled.wait(self.pause)
        with self._lock:
            self._running.discard(stage.name)
            self.ended.append(stage.name)
        return not stopped and stage.name not in self.failing


def run(graph: Graph, recorder: Recorder, machine: Machine, **options: object) -> None:
    demands = options.pop("demands", {})
    seconds = options.pop("seconds", {})
    work = Work(recorder.settle, recorder.run)
    run_in_parallel(graph, graph.stages, work, machine, demands=demands, seconds=seconds, **options)


@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_each_stage_runs_once_and_after_those_that_it_reads(jobs: int) -> None:
    rng = Random(jobs)
    names = [f"s{n}" for n in range(20)]
    graph = Graph(tuple(stage(name, *rng.sample(names[:n], min(n, 2))) for n, name in enumerate(names)))
    recorder = Recorder(pause=0.002)
    run(graph, recorder, Machine(jobs))
    assert sorted(recorder.began) == sorted(names)
    assert all(len(together) <= jobs for together in recorder.at_once)
    for each in graph.stages:
        before = recorder.ended.index(each.name)
        assert all(recorder.ended.index(up) < before for up in graph.upstream(each.name))
        assert not any(graph.upstream(each.name) & together for together in recorder.at_once if each.name in together)


def test_two_that_do_not_depend_on_each_other_run_at_once() -> None:
    both = threading.Barrier(2, timeout=10)

    def wait_for_the_other(stage: Stage, variables: Mapping[str, str], cancelled: threading.Event) -> bool:
        if stage.name in "bc":
            both.wait()
        return True

    work = Work(lambda stage: stage.name in ("a", "d", "alone"), wait_for_the_other)
    run_in_parallel(DIAMOND, DIAMOND.stages, work, Machine(2), demands={}, seconds={})


def test_the_longest_way_to_the_end_begins_first() -> None:
    recorder = Recorder()
    run(DIAMOND, recorder, Machine(1), seconds={"c": 9.0, "alone": 5.0})
    assert recorder.began == ["a", "c", "alone", "b", "d"]


def test_a_failure_leaves_the_others_going() -> None:
    recorder = Recorder(failing=["b"])
    run(DIAMOND, recorder, Machine(2))
    assert sorted(recorder.began) == ["a", "alone", "b", "c"]


def test_a_failure_ends_the_others_where_that_is_asked_for() -> None:
    recorder = Recorder(failing=["alone"], pause=0.05)
    graph = Graph((stage("alone"), stage("long"), stage("later", "long")))
    began = time.monotonic()

    def work(stage: Stage, variables: Mapping[str, str], cancelled: threading.Event) -> bool:
        recorder.began.append(stage.name)
        return not cancelled.wait(0.01 if stage.name == "alone" else 60) and stage.name != "alone"

    run_in_parallel(
        graph, graph.stages, Work(lambda stage: False, work), Machine(2), demands={}, seconds={}, fail_fast=True
    )
    assert sorted(recorder.began) == ["alone", "long"]
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(("signum", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_ends_all_that_run_and_lets_none_begin(signum: int, raised: type[BaseException]) -> None:
    recorder = Recorder(pause=60)
    threading.Timer(0.1, os.kill, (os.getpid(), signum)).start()
    with pytest.raises(raised):
        run(DIAMOND, recorder, Machine(2))
    assert sorted(recorder.began) == sorted(recorder.ended) == ["a", "alone"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_a_handler_raises_ends_all_that_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefect's engine has a handler of its own, which must stay in place."""

    class Terminated(BaseException):
        pass

    def handler(signum: int, frame: object) -> None:
        raise Terminated

    recorder = Recorder(pause=60)
    before = signal.signal(signal.SIGTERM, handler)
    try:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
        with pytest.raises(Terminated):
            run(DIAMOND, recorder, Machine(2))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert sorted(recorder.ended) == ["a", "alone"]


def test_a_defect_in_a_thread_is_raised_after_the_others_have_ended() -> None:
    ended = []

    def work(stage: Stage, variables: Mapping[str, str], cancelled: threading.Event) -> bool:
        if stage.name == "alone":
            raise ZeroDivisionError
        cancelled.wait(60)
        ended.append(stage.name)
        return True

    with pytest.raises(ZeroDivisionError):
        run_in_parallel(DIAMOND, DIAMOND.stages, Work(lambda stage: False, work), Machine(2), demands={}, seconds={})
    assert ended == ["a"]


def test_memory_is_kept_to_and_what_needs_more_than_there_is_runs_alone() -> None:
    machine = Machine(4, memory=10 * GIB)
    assert machine.take("a", Demand(6 * GIB)) == {}
    assert machine.take("b", Demand(5 * GIB)) is None
    assert machine.take("c", Demand(4 * GIB)) == {}
    machine.give_back("a")
    assert machine.take("huge", Demand(99 * GIB)) is None
    machine.give_back("c")
    assert machine.take("huge", Demand(99 * GIB)) == {}
    assert machine.take("b", Demand(0)) is None


def test_each_training_has_a_gpu_of_its_own() -> None:
    machine = Machine(8, gpus=("0", "1", "2"))
    assert machine.take("a", Demand(gpus=1)) == {GPUS: "0"}
    assert machine.take("two", Demand(gpus=2)) == {GPUS: "1,2"}
    assert machine.take("c", Demand(gpus=1)) is None
    assert machine.take("report", Demand()) == {}
    assert machine.take("probe", Demand(shares_gpu=True)) == {GPUS: "0"}
    machine.give_back("two")
    assert machine.take("c", Demand(gpus=1)) == {GPUS: "1"}
    assert machine.take("three", Demand(gpus=3)) is None
    assert machine.take("embed", Demand(shares_gpu=True)) == {GPUS: "2"}
    assert Machine(8).take("a", Demand(gpus=1, shares_gpu=True)) == {}


def test_few_stages_share_a_gpu_and_the_emptiest_one_first() -> None:
    machine = Machine(32, gpus=("0", "1"))
    assert machine.take("train", Demand(gpus=1)) == {GPUS: "0"}
    taken = [machine.take(f"embed {i}", Demand(shares_gpu=True)) for i in range(2 * SHARERS)]
    assert taken == [{GPUS: "1"}] * SHARERS + [{GPUS: "0"}] * SHARERS
    assert machine.take("one more", Demand(shares_gpu=True)) is None
    assert machine.take("report", Demand()) == {}
    machine.give_back("embed 0")
    assert machine.take("one more", Demand(shares_gpu=True)) == {GPUS: "1"}
    even = Machine(32, gpus=("0", "1"))
    assert [even.take(f"{i}", Demand(shares_gpu=True)) for i in range(4)] == [{GPUS: "0"}, {GPUS: "1"}] * 2


def test_trainings_on_gpus_divide_the_cores_by_their_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(16, gpus=tuple("01234567"), cores=16)
    assert machine.take("one", Demand(gpus=1)) == {GPUS: "0", WORKERS: "2"}
    assert machine.take("four", Demand(gpus=4, places=4)) == {GPUS: "1,2,3,4", WORKERS: "8"}
    assert machine.take("embed", Demand(shares_gpu=True)) == {GPUS: "5"}
    assert Machine(16, gpus=("0", "1", "2"), cores=2).take("few cores", Demand(gpus=1)) == {GPUS: "0", WORKERS: "1"}
    assert Machine(1, gpus=("0", "1"), cores=16).take("alone", Demand(gpus=1)) == {GPUS: "0"}
    assert Machine(8, gpus=("0",), cores=16).take("one GPU", Demand(gpus=1)) == {GPUS: "0"}


def test_a_training_in_several_processes_takes_as_many_places() -> None:
    machine = Machine(4)
    assert machine.take("three", Demand(places=3)) == {}
    assert machine.take("two", Demand(places=2)) is None
    assert machine.take("one", Demand()) == {}
    machine.give_back("three")
    machine.give_back("one")
    assert machine.take("five", Demand(places=5)) == {}


def test_gpus_are_those_that_cuda_would_show(tmp_path) -> None:
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / name).mkdir()
    assert visible_gpus({}, tmp_path) == ("0", "1")
    assert visible_gpus({GPUS: "1, GPU-3f"}, tmp_path) == ("1", "GPU-3f")
    assert visible_gpus({GPUS: "1,-1,0"}, tmp_path) == ("1",)
    assert visible_gpus({GPUS: ""}, tmp_path) == ()
    assert visible_gpus({}, tmp_path / "absent") == ()
