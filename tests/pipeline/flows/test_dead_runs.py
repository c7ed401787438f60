"""Which runs count as dead, without a server."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.flows import dead_runs, liveness
from tests.pipeline.dvc_project import wait_for


def test_a_run_is_alive_while_its_process_lives_and_dead_afterwards(tmp_path: Path, repository: Path) -> None:
    code = "import sys, time; from pathlib import Path; from pipeline.flows.liveness import register_run; "
    code += "register_run('abc', Path(sys.argv[1])); print('here', flush=True); time.sleep(600)"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=repository, stdout=subprocess.PIPE, env={**os.environ}
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"here\n"
        (run,) = liveness.list_registered_runs(tmp_path)
        assert (run.run_id, run.alive, run.process) == ("abc", True, process.pid)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert wait_for(lambda: not liveness.list_registered_runs(tmp_path)[0].alive, 10)


@pytest.mark.parametrize(
    ("state", "age", "closed"), [("RUNNING", 1, True), ("CANCELLING", 1, False), ("CANCELLING", 100, True)]
)
def test_a_run_that_is_being_cancelled_is_left_to_its_worker_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, age: int, closed: bool
) -> None:
    since = (datetime.now(UTC) - timedelta(seconds=age)).isoformat()
    run = {"id": "abc", "name": "a-run", "state_id": "s", "state_type": state, "state_name": state.title()}
    run |= {"state": {"timestamp": since}, "deployment_id": None}  # type: ignore[dict-item]
    requested: list[str] = []

    def call(address: str, method: str, path: str, body: object = None) -> object:
        requested.append(path)
        return [run] if path == "/flow_runs/filter" else run

    monkeypatch.setattr(dead_runs, "call", call)
    (tmp_path / liveness.RUNS).mkdir(parents=True)
    (tmp_path / liveness.RUNS / "abc.json").write_text('{"process": 1}')  # nobody holds it
    closed_runs = dead_runs.close_dead_runs("http://127.0.0.1:1/api", tmp_path)
    message = f"closed run 'a-run', which was {state.title()}: its process 1 ended without reporting a state"
    assert [str(each) for each in closed_runs] == ([message] if closed else [])
    assert ("/flow_runs/abc/set_state" in requested) is closed
    assert (tmp_path / liveness.RUNS / "abc.json").exists() is not closed


def test_the_file_of_a_run_that_another_server_knows_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flow called as a plain function uses a server of its own; the other server must still close its dead runs."""
    monkeypatch.setattr(dead_runs, "call", lambda *arguments: [])
    path = tmp_path / liveness.RUNS / "abc.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"process": 1}')
    assert dead_runs.close_dead_runs("http://127.0.0.1:1/api", tmp_path) == []
    assert path.exists()


class Server:
    """What Prefect's API says of one run of another host, which a test changes."""

    def __init__(self, project: str) -> None:
        self.run: dict[str, Any] = {"id": "abc", "name": "far", "state_id": "s", "state_type": "RUNNING"}
        self.run |= {
            "state_name": "Running",
            "state": {"timestamp": "2020-01-01T00:00:00+00:00"},
            "deployment_id": None,
        }
        self.run["labels"] = {liveness.BEAT: 1, liveness.HOST: "elsewhere", liveness.PROJECT: project}
        self.closed: list[Any] = []
        self.beats_when_read = False

    def call(self, address: str, method: str, path: str, body: Any = None) -> Any:
        if path.endswith("/set_state"):
            self.closed.append(body["state"]["message"])
        if path == "/flow_runs/abc" and self.beats_when_read:
            self.run = {**self.run, "labels": {**self.run["labels"], liveness.BEAT: "new"}}
        return [self.run] if path == "/flow_runs/filter" else self.run

    def beat(self) -> None:
        self.run = {**self.run, "labels": {**self.run["labels"], liveness.BEAT: self.run["labels"][liveness.BEAT] + 1}}


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server(liveness.project_of(tmp_path))
    monkeypatch.setattr(dead_runs, "call", server.call)
    return server


def looks(root: Path, monkeypatch: pytest.MonkeyPatch, clock: list[float], times: int, gap: float) -> list[str]:
    """Look for dead runs so many times, with so many seconds between two looks."""
    closed = []
    monkeypatch.setattr(time, "clock_gettime", lambda clock_id: clock[0])
    for _ in range(times):
        clock[0] += gap
        closed += [str(run) for run in dead_runs.close_dead_runs("http://127.0.0.1:1/api", root)]
    return closed


def test_a_run_of_another_host_is_closed_when_its_heartbeat_has_stopped(
    far: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    assert looks(tmp_path, monkeypatch, clock, 10, 60) == []  # nine minutes since the first look
    (said,) = looks(tmp_path, monkeypatch, clock, 1, 60)
    assert said.endswith("which was Running: it ran on elsewhere, whose heartbeat has stopped for 600 seconds")
    assert len(far.closed) == 1


def test_a_run_that_beats_is_never_closed_whatever_its_clock_says(
    far: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its state is years old by the server's clock. One beat in nine minutes is enough; no wall clock is read."""
    clock = [1000.0]
    monkeypatch.setattr(time, "time", lambda: 0.0)
    for _ in range(5):
        assert looks(tmp_path, monkeypatch, clock, 9, 60) == []
        far.beat()
    assert far.closed == []


def test_time_in_which_nobody_looked_does_not_count(
    far: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a night without the server, or a restart of this host, a living run has had no chance to be seen."""
    clock = [1000.0]
    assert looks(tmp_path, monkeypatch, clock, 1, 60) == []
    assert looks(tmp_path, monkeypatch, clock, 2, 30_000) == []  # counts as 180 s
    assert looks(tmp_path, monkeypatch, [5.0], 1, 1) == []  # the clock went back
    (tmp_path / dead_runs.OTHERS).write_text('{"boot": "another", "runs": {"abc": {"beat": 1, "silent": 9e9}}}')
    assert looks(tmp_path, monkeypatch, clock, 1, 60) == []
    (tmp_path / dead_runs.OTHERS).write_text("no json")
    assert looks(tmp_path, monkeypatch, clock, 1, 60) == []
    assert far.closed == []


def test_a_run_that_beats_in_the_last_moment_or_of_another_project_is_left_alone(
    far: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    far.beats_when_read = True
    assert looks(tmp_path, monkeypatch, clock, 12, 60) == []
    far.beats_when_read = False
    far.run = {**far.run, "labels": {**far.run["labels"], liveness.PROJECT: "another"}}
    assert looks(tmp_path, monkeypatch, clock, 20, 60) == []
    assert far.closed == []
