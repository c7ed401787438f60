"""An error that nobody foresaw: the run fails, its traceback is in the log, and no secret is in either."""

from __future__ import annotations

import sys

import pytest

from tests.pipeline.dvc_project import Project
from tests.pipeline.flows.toy import Prefect

pytestmark = pytest.mark.xdist_group("flows")

_DRIVER = """
import os
from pipeline.graph import dvc
from pipeline.flows import entrypoints
def broken(*arguments, **more):
    raise ValueError("no answer from https://example.org/?key=" + os.environ["CANARY_TOKEN"])
prepare = dvc.prepare
dvc.prepare = broken  # in a task
first = entrypoints.reproduce(return_state=True)
dvc.prepare, dvc.status = prepare, broken  # in the flow
second = entrypoints.reproduce(return_state=True)
for state in (first, second):
    print("STATE", state.state_details.flow_run_id, state.type.value, state.message)
"""


def test_an_unforeseen_error_is_reported_without_secrets(prefect: Prefect, toy: Project) -> None:
    canary = "canary-0d2f77aa"
    done = toy.call(sys.executable, "-c", _DRIVER, CANARY_TOKEN=canary)
    reported = [line.split(" ", 3)[1:] for line in done.stdout.splitlines() if line.startswith("STATE")]
    assert [state for _, state, _ in reported] == ["FAILED"] * 2
    for run, _, message in reported:
        assert message == "a defect of Reprise: ValueError: no answer from https://example.org/?***"
        logs = "\n".join(prefect.logs(run))
        assert "Traceback (most recent call last)" in logs
        assert canary not in logs + str(prefect.run(run)) + str(prefect.tasks(run))
    assert canary not in done.stdout + done.stderr
