"""`reprise flows run` where no server runs: one of its own for the run, and nothing left of it."""

from __future__ import annotations

import json
import sqlite3

import pytest

from tests.faults.killing import family, held_locks
from tests.pipeline.dvc_project import Project

pytestmark = pytest.mark.xdist_group("flows")


def test_it_runs_and_leaves_nothing_running(toy: Project) -> None:
    done = toy.reprise("flows", "run", "reproduce", "pretrain/left")
    assert "reproduce: 3 ran in" in done.stdout
    assert "Traceback" not in done.stderr + done.stdout
    assert family(toy.root) == []
    assert held_locks(toy.root) == []
    with sqlite3.connect(toy.root / ".reprise/prefect/prefect.db") as database:
        tasks = dict(database.execute("select name, state_name from task_run").fetchall())
        (run,) = database.execute("select state_name, state_type from flow_run").fetchall()
    database.close()
    assert tasks == {"look": "Completed", "check": "Ran", "shard": "Ran", "pretrain left": "Ran"}
    assert run == ("Completed", "COMPLETED")
    assert (toy.root / ".reprise/prefect/server.log").stat().st_mode & 0o077 == 0


def test_a_server_that_is_named_but_does_not_answer_is_said(toy: Project, unused_port: int) -> None:
    address = f"http://127.0.0.1:{unused_port}/api"
    done = toy.reprise("flows", "run", "reproduce", check=False, PREFECT_API_URL=address)
    assert done.returncode == 1
    assert f"Prefect's server does not answer (PREFECT_API_URL). Found: {address}" in done.stderr
    assert toy.ran() == []


def test_a_stale_note_of_a_server_is_not_believed(toy: Project, unused_port: int) -> None:
    toy.write(".reprise/prefect/server.json", json.dumps({"api": f"http://127.0.0.1:{unused_port}/api", "report": "x"}))
    said = toy.reprise("flows", "janitor").stdout
    assert "no Prefect server runs for this folder" in said
    refused = toy.reprise("flows", "deploy", check=False)
    assert "no Prefect server runs for this folder" in refused.stderr
