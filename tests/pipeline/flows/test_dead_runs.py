"""Which runs count as dead, without a server."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

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
