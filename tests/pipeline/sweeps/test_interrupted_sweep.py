"""A sweep that is killed, cancelled or interrupted: nothing is left running, and the next one continues."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from pipeline.processes.commands import environment
from pipeline.sweeps.runner import SweepPoint, run_sweep
from tests.faults.killing import family
from tests.pipeline.dvc_project import REPRISE, Project, wait_for
from tests.pipeline.sweeps.conftest import file_hashes, log, plan

HANG = plan(points=[{}, {"methods.simclr.temperature": "hang"}])


@pytest.mark.slow
def test_sigkill_in_the_middle_leaves_no_process_and_the_next_sweep_continues(fresh: Project) -> None:
    fresh.write("../plan.yaml", "name: warmer\npoints:" + "".join(f"\n- {p}" for p in HANG.points or []) + "\n")
    before = file_hashes(fresh)
    command = [*REPRISE, "sweep", "../plan.yaml"]
    first = subprocess.Popen(command, cwd=fresh.root, env=environment(), stdout=subprocess.DEVNULL)
    wait_for_line("half simclr 0")
    first.kill()
    first.wait()
    assert file_hashes(fresh) == before
    assert "up to date" in fresh.reprise("repro").stdout
    assert log(fresh) == ["half simclr 0"]  # the base point is the folder as it is: it came from the cache

    said = fresh.reprise("sweep", "../plan.yaml").stdout
    ends = [re.search(r": (done[a-z ]*?)( in \d+ s)?$", line) for line in said.splitlines() if line.startswith("[")]
    assert [end[1] for end in ends if end] == ["done before", "done"]
    assert log(fresh) == ["resumed simclr 0", "summary"]
    assert file_hashes(fresh) == before
    clones = list((fresh.root / ".reprise/sweeps").glob("warmer-*"))
    assert clones == []
    assert family(fresh.root) == []


@pytest.mark.slow
def test_a_cancelled_sweep_stops_soon_and_continues_later(fresh: Project) -> None:
    cancelled, reported = threading.Event(), []

    def report(point: SweepPoint) -> None:
        reported.append((point.changes.get("methods.simclr.temperature"), point.state))
        if reported[-1] == ("hang", "running"):
            threading.Thread(target=cancel, daemon=True).start()

    def cancel() -> None:
        wait_for_line("half simclr 0")
        cancelled.set()

    stopped = run_sweep(HANG, root=fresh.root, say=lambda line: None, cancelled=cancelled, on_point=report)
    assert [point.state for point in stopped.points] == ["done", "stopped"]
    assert reported == [
        (None, "waiting"),
        ("hang", "waiting"),
        (None, "running"),
        (None, "done"),
        ("hang", "running"),
        ("hang", "stopped"),
    ]
    log(fresh)
    again = run_sweep(HANG, root=fresh.root, say=lambda line: None)
    assert [point.state for point in again.points] == ["done before", "done"]
    assert "resumed simclr 0" in log(fresh)


@pytest.mark.slow
def test_ctrl_c_ends_the_sweep_with_its_status(fresh: Project) -> None:
    fresh.write("../plan.yaml", "name: warmer\npoints: [{methods.simclr.temperature: hang}]\n")
    command = [*REPRISE, "sweep", "../plan.yaml"]
    process = subprocess.Popen(command, cwd=fresh.root, env=environment(), stderr=subprocess.PIPE, text=True)
    wait_for_line("half simclr 0")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in errors
    assert family(fresh.root / ".reprise/sweeps") == []


def wait_for_line(line: str) -> None:
    """Wait until a stage of the toy has logged a line."""
    path = Path(os.environ["TOY_LOG"])
    wait_for(lambda: path.exists() and line in path.read_text().splitlines(), interval=0.05)
