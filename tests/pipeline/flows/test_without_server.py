"""Flows while no server runs: each run has a temporary one, and nothing of it is left."""

from __future__ import annotations

import json
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.faults.killing import family, held_locks, orphans, start
from tests.pipeline.dvc_project import REPRISE, Project, wait_for

pytestmark = pytest.mark.xdist_group("flows")

_PLAIN_CALL = """
from pipeline.flows.entrypoints import reproduce
state = reproduce(["shard"], return_state=True)
print("STATE", state.type.value, state.message)
"""


def test_it_runs_and_leaves_nothing_running(toy: Project) -> None:
    done = toy.reprise("flows", "run", "reproduce", "pretrain/left")
    assert "reproduce: 3 ran in" in done.stdout
    assert "Traceback" not in done.stderr + done.stdout
    assert "View at" not in done.stderr + done.stdout
    assert family(toy.root) == []
    assert held_locks(toy.root) == []
    tasks = dict(ask(toy, "select name, state_name from task_run"))
    assert tasks == {"prepare": "Completed", "check": "Ran", "shard": "Ran", "pretrain left": "Ran"}
    assert ask(toy, "select state_name, state_type from flow_run") == [("Completed", "COMPLETED")]
    for name in ("", "server.log"):  # blocks hold secrets
        assert (toy.root / ".reprise/prefect" / name).stat().st_mode & 0o077 == 0


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_ended_early_it_leaves_no_process_and_the_next_run_closes_it(toy: Project, signum: int, status: int) -> None:
    toy.write("methods/left.txt", "sleep")
    log = toy.root.with_name("log.txt")
    driver = start(toy.root, [*REPRISE, "flows", "run", "reproduce", "pretrain/left"], log)
    wait_for(lambda: (toy.root / "sleeping").exists(), 200)
    driver.send_signal(signum)
    assert driver.wait(timeout=120) == status
    assert orphans(toy.root) == []
    assert held_locks(toy.root) == []
    assert "Traceback" not in log.read_text()
    assert "Error logging to API" not in log.read_text()
    toy.write("awake", "")
    done = toy.reprise("flows", "run", "reproduce", "pretrain/left")
    assert "reproduce: 2 cached, 1 ran in" in done.stdout
    states = [state for (state,) in ask(toy, "select state_type from flow_run order by start_time")]
    assert states == ["CRASHED", "COMPLETED"]


def ask(toy: Project, query: str) -> list[tuple[str, ...]]:
    """Rows from the database that the temporary servers left."""
    with closing(sqlite3.connect(toy.root / ".reprise/prefect/prefect.db")) as database:
        return database.execute(query).fetchall()


@pytest.mark.slow
def test_a_flow_called_as_a_function_uses_the_server_that_prefect_starts(toy: Project, tmp_path: Path) -> None:
    settings = {"PREFECT_HOME": str(tmp_path / "prefect")}
    done = toy.call(sys.executable, "-c", _PLAIN_CALL, **settings)
    assert "STATE COMPLETED 2 ran in" in done.stdout
    assert "telemetry" not in done.stdout + done.stderr
    assert "Prefect's server" not in done.stdout + done.stderr  # dead runs were looked for without an error
    assert family(toy.root) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "what"),
    [
        ({"PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false"}, "this flow has no Prefect API that could record the run"),
        ({"PREFECT_API_URL": "http://127.0.0.1:9/api"}, "Prefect's API cannot be used in PREFECT_API_URL=http://127"),
        ({"PREFECT_API_URL": "http://me:canary@127.0.0.1:9/api"}, "PREFECT_API_URL=http://***@127.0.0.1:9/api"),
    ],
    ids=["none", "silent", "password"],
)
def test_a_flow_called_as_a_function_without_an_api_is_a_sentence(
    toy: Project, tmp_path: Path, setting: dict[str, str], what: str
) -> None:
    done = toy.call(sys.executable, "-c", _PLAIN_CALL, check=False, PREFECT_HOME=str(tmp_path / "prefect"), **setting)
    assert done.returncode == 1
    message = done.stderr.rpartition("GraphError: ")[2]
    assert what in message
    assert "canary" not in message
    assert toy.ran() == []


def test_a_server_that_is_named_but_does_not_answer_is_reported(toy: Project, unused_port: int) -> None:
    address = f"http://127.0.0.1:{unused_port}/api"
    done = toy.reprise("flows", "run", "reproduce", check=False, PREFECT_API_URL=address)
    assert done.returncode == 1
    assert f"Prefect's server does not answer (PREFECT_API_URL). Found: {address}" in done.stderr
    assert toy.ran() == []


def test_a_stale_note_of_a_server_is_not_believed(toy: Project, unused_port: int) -> None:
    toy.write(".reprise/prefect/server.json", json.dumps({"api": f"http://127.0.0.1:{unused_port}/api", "report": "x"}))
    output = toy.reprise("flows", "close-dead-runs").stdout
    assert "no Prefect server runs for this folder" in output
    refused = toy.reprise("flows", "deploy", check=False)
    assert "no Prefect server runs for this folder" in refused.stderr
