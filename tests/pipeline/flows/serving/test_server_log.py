"""What a server writes goes into its log without secrets, and its last lines into the message if it does not start."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from pipeline.flows.serving import server
from reprise.config.errors import GraphError
from tests.pipeline.dvc_project import wait_for


def test_the_servers_log_holds_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", "postgresql://me:canary-41@host/db")
    with server.server_log(tmp_path) as log:
        os.write(log, b"cannot connect to postgresql://me:canary-41@host/db\nthe password canary-41 is wrong\nlast")
    path = tmp_path / server.HOME / "server.log"
    wait_for(lambda: path.read_text().endswith("last"), 10)
    assert path.read_text() == "cannot connect to ***\nthe password *** is wrong\nlast"
    assert path.stat().st_mode & 0o077 == 0


def test_a_server_that_does_not_start_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unused_port: int
) -> None:
    monkeypatch.setenv("A_PASSWORD", "canary-41")
    code = "import sys; print('the disk is full, canary-41', file=sys.stderr); sys.exit(3)"
    with server.server_log(tmp_path) as log:
        process = server.start_child([sys.executable, "-c", code], tmp_path, {}, log)
    with pytest.raises(GraphError, match="Prefect's server did not start") as refused:
        server.await_health(f"http://127.0.0.1:{unused_port}/api", process)
    assert "\n  it ended with status 3\n  | the disk is full, ***\n" in str(refused.value)
