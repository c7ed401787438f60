"""Blocks on a Dask cluster: in order, bounded in number, and a sentence for all that goes wrong."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from reprise.config.errors import MachineError, ParameterError
from reprise.runtime.blocks import cluster as clusters
from reprise.runtime.blocks import terms, use
from reprise.runtime.blocks.cluster import AHEAD, Cluster, open_cluster
from reprise.runtime.blocks.terms import MARK, Terms
from reprise.runtime.workers import Lost, Workers
from tests.reprise.runtime.blocks import work
from tests.reprise.runtime.blocks.conftest import whole

ROOT = Path(__file__).resolve().parents[4]


Set = Callable[[Callable[[Terms], Terms]], None]


@pytest.fixture
def other_terms(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Set]:
    """Let the stage state other terms than it has."""
    real = clusters.terms_of

    def set_terms(changed: Callable[[Terms], Terms]) -> None:
        cluster._terms.clear()
        monkeypatch.setattr(clusters, "terms_of", lambda *stated: changed(real(*stated)))

    yield set_terms
    cluster._terms.clear()


def test_results_come_in_the_order_of_the_tasks_from_all_workers(cluster: Cluster) -> None:
    assert list(cluster.computed(work.square, range(30))) == [x * x for x in range(30)]
    assert len(set(cluster.computed(work.process_of, range(20)))) == 2


def test_few_blocks_are_in_flight_whatever_their_number(cluster: Cluster) -> None:
    def tasks() -> Iterator[int]:
        for x in range(100):
            given.append(x)
            yield x

    given: list[int] = []
    taken = 0
    for _ in cluster.computed(work.square, tasks()):
        taken += 1
        assert len(given) - taken <= 2 * AHEAD
    assert taken == 100
    assert cluster.most_in_flight == 2 * AHEAD


def test_workers_that_come_while_blocks_are_done_get_some(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = itertools.chain([1], itertools.repeat(2))
    monkeypatch.setattr(clusters, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(cluster, "workers", lambda: next(counts))
    before, cluster.most_in_flight = cluster.most_in_flight, 0
    assert list(cluster.computed(work.square, range(40))) == [x * x for x in range(40)]
    assert cluster.most_in_flight == 2 * AHEAD
    cluster.most_in_flight = before


def test_a_look_for_workers_while_a_large_result_is_on_its_way_changes_nothing(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "LOOK_SECONDS", 0.01)
    assert [len(data) for data in cluster.computed(work.zeros, [30 << 20] * 6)] == [30 << 20] * 6


def test_a_scheduler_that_is_gone_between_two_calls_is_a_sentence(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone() -> int:
        raise OSError("Timed out trying to connect")

    monkeypatch.setattr(cluster, "workers", gone)
    with pytest.raises(MachineError, match="the Dask scheduler was lost"):
        list(cluster.computed(work.square, range(3)))


def test_tasks_in_flight_hold_a_bounded_number_of_bytes(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "AHEAD_BYTES", 1000)
    before, cluster.most_in_flight = cluster.most_in_flight, 0
    assert len(list(cluster.computed(work.length, [bytes(900)] * 6))) == 6
    assert cluster.most_in_flight == 1
    cluster.most_in_flight = before


def test_every_worker_has_a_bound_of_memory_and_one_thread(cluster: Cluster) -> None:
    workers = cluster.client.scheduler_info()["workers"].values()
    assert len(workers) == 2
    assert all(0 < worker["memory_limit"] < psutil.virtual_memory().total for worker in workers)
    assert {worker["nthreads"] for worker in workers} == {1}


def test_an_exception_of_a_block_is_raised_in_the_stage(cluster: Cluster) -> None:
    with pytest.raises(ValueError, match="task 3"):
        list(cluster.computed(work.fail, range(6)))
    assert list(cluster.computed(work.square, [4])) == [16]


def test_a_worker_that_is_killed_changes_nothing(cluster: Cluster, tmp_path: Path) -> None:
    tasks = [(str(tmp_path), x) for x in range(12)]
    assert list(cluster.computed(work.killing_once, tasks)) == [x * x for x in range(12)]
    assert (tmp_path / "killed").exists()


def test_a_block_that_may_crash_ends_its_own_process_and_no_worker(cluster: Cluster) -> None:
    whole(cluster)
    before = cluster.client.run(os.getpid)
    with Workers(work.killing, work.nothing, 1) as pool:
        assert list(use.run_apart(pool, [1, 2, 3], 60.0)) == [Lost(-signal.SIGKILL)] * 3
        assert pool._workers == []  # the pool of this machine was not needed
    assert cluster.client.run(os.getpid) == before


def test_a_worker_that_does_not_see_the_folder_is_refused(cluster: Cluster, other_terms: Set) -> None:
    other_terms(lambda terms: replace(terms, libraries=()))  # which the worker has not yet judged
    mark = cluster.folder / MARK
    text = mark.read_text(encoding="utf-8")
    mark.write_text("another", encoding="utf-8")
    with pytest.raises(MachineError, match="does not see the project's folder"):
        list(cluster.computed(work.square, [1]))
    mark.write_text(text, encoding="utf-8")


def test_a_worker_with_other_code_is_refused_and_the_file_is_named(
    cluster: Cluster, other_terms: Set, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stage's own fingerprint is made another, as if the worker's clone were at an earlier revision."""
    real = terms.fingerprint
    file = "reprise/runtime/workers.py"
    monkeypatch.setattr(terms, "fingerprint", lambda modules: real(modules) | {file: {"Worker": "0" * 64}})
    other_terms(lambda terms: terms)
    with pytest.raises(MachineError, match=f"it has other code: {file}"):
        list(cluster.computed(work.square, [1]))


@pytest.mark.parametrize(
    ("arithmetic", "said"),
    [
        ({"machine": "abacus"}, "its processor may round differently"),
        ({"threads": 7}, "Set REPRISE_THREADS=7"),
    ],
)
def test_a_worker_that_rounds_differently_is_refused(
    cluster: Cluster, other_terms: Set, arithmetic: dict[str, object], said: str
) -> None:
    other_terms(lambda terms: replace(terms, arithmetic=replace(terms.arithmetic, **arithmetic)))
    with pytest.raises(MachineError, match=said):
        list(cluster.computed(work.square, [1]))


def test_a_worker_with_other_versions_is_refused(cluster: Cluster, other_terms: Set) -> None:
    other_terms(lambda terms: replace(terms, libraries=(*terms.libraries[:-1], ("torch", "0.1"))))
    with pytest.raises(MachineError, match="other versions: torch .* there, 0.1 here"):
        list(cluster.computed(work.square, [1]))


def test_a_scheduler_that_cannot_be_reached_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(clusters, "CONNECT_SECONDS", 1.0)
    with pytest.raises(MachineError, match=r"the Dask scheduler cannot be reached \(tcp://127.0.0.1:9\)"):
        open_cluster("tcp://127.0.0.1:9", None)
    assert list((tmp_path / ".reprise/blocks").iterdir()) == []


@pytest.mark.parametrize("text", ["yes", "http://a:1", "tcp://a", "local:0", "tcp://a:1/b", "tcp://a:b@c d:1"])
def test_what_names_no_cluster_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(use.VARIABLE, text)
    with pytest.raises(ParameterError, match="names no Dask cluster"):
        use.asked()


@pytest.mark.parametrize(
    ("text", "found"),
    [("", None), ("local", (None, None)), ("local:3", (None, 3)), ("tcp://a.b:8786", ("tcp://a.b:8786", None))],
)
def test_what_names_a_cluster(monkeypatch: pytest.MonkeyPatch, text: str, found: object) -> None:
    monkeypatch.setenv(use.VARIABLE, text)
    assert use.asked() == found


@pytest.mark.parametrize("how", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
def test_no_worker_outlives_the_process_that_started_it(tmp_path: Path, how: signal.Signals) -> None:
    program = (
        "from reprise.runtime.entry import run_stage\n"
        "from reprise.runtime.blocks import use\n"
        "from tests.reprise.runtime.blocks import work\n"
        "def main(argv):\n"
        "    print('open', flush=True) if use.cluster() else None\n"
        "    list(use.cluster().computed(work.slow, range(4)))\n"
        "if __name__ == '__main__':\n"
        "    run_stage(main)\n"
    )
    (tmp_path / "stage.py").write_text(program, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "stage.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), use.VARIABLE: "local:1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does: the workers get it too
    else:
        process.kill()
    _, said = process.communicate(timeout=30)
    _, alive = psutil.wait_procs(children, timeout=15)
    assert alive == []
    assert process.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    assert "Traceback" not in said, said
    assert "leaked" not in said, said
    if how == signal.SIGINT:
        assert list((tmp_path / ".reprise/blocks").iterdir()) == []
