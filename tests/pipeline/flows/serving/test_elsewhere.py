"""A run that died in another folder or on another host is found by its heartbeat, on a real server."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from pipeline.flows import dead_runs, liveness
from tests.pipeline.dvc_project import REPRISE, Project, wait_for
from tests.pipeline.flows.toy import Prefect

pytestmark = [pytest.mark.xdist_group("flows"), pytest.mark.slow]


def test_another_clone_closes_a_run_that_was_killed_and_no_run_that_lives(
    prefect: Prefect, toy: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy.write("word.txt", "sleep")
    toy.commit()
    other = tmp_path / "other"
    toy.call("git", "clone", "--quiet", str(toy.root), str(other))
    flow = subprocess.Popen([*REPRISE, "flows", "run", "reproduce"], cwd=toy.root, start_new_session=True)
    wait_for(lambda: (toy.root / "sleeping").exists() or flow.poll() is not None)
    (run,) = [each.run_id for each in liveness.list_registered_runs(toy.root)]
    labels = wait_for(lambda: prefect.run(run)["labels"].get(liveness.BEAT) is not None and prefect.run(run)["labels"])
    assert labels[liveness.PROJECT] == liveness.project_of(other)

    monkeypatch.setattr(dead_runs, "SILENT_SECONDS", 45.0)  # a beat comes every 30
    look = lambda: [each for each in dead_runs.close_dead_runs(prefect.address, other) if each.run_id == run]  # noqa: E731
    with pytest.raises(TimeoutError):
        wait_for(look, 65, interval=2)
    assert prefect.run(run)["state_type"] == "RUNNING"

    flow.send_signal(signal.SIGKILL)
    flow.wait()
    (closed,) = wait_for(look, 90, interval=2)
    assert "whose heartbeat has stopped" in closed.reason
    assert prefect.run(run)["state_type"] == "CRASHED"
