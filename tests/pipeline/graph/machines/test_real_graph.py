"""The real graph on two workers that share nothing but git and a remote: the hashes of one machine."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.pipeline.dvc_project import REPRISE, Project, wait_for
from tests.pipeline.graph.machines.machines import Machines, add_remote, clone

_WORK = ".reprise/work/pretrain"


@pytest.mark.slow
@pytest.mark.parametrize("store", ["folder", "s3"])
def test_two_workers_end_with_the_hashes_of_one_machine(
    first_run: tuple[Project, str], cluster: Machines, tmp_path: Path, store: str, request: pytest.FixtureRequest
) -> None:
    origin = Project(tmp_path / "leader")
    first_run[0].call("git", "clone", "--quiet", str(first_run[0].root), str(origin.root))
    (origin.root / "dvc.lock").unlink()
    if store == "s3":
        request.getfixturevalue("credentials")
        add_remote(origin, "s3://reprise/real", f"    endpointurl = {request.getfixturevalue('s3')}\n")
    else:
        add_remote(origin, str(tmp_path / "store"))
    origin.commit("without results")
    workers = [clone(origin, name) for name in ("first", "second")]
    processes = {each.root: cluster.worker(each, "--jobs", "1") for each in workers}
    command = [*REPRISE, "repro", "--workers", cluster.address, "--share-checkpoints", "2"]
    with (tmp_path / "said").open("w") as output:
        run = subprocess.Popen(command, cwd=origin.root, stdout=output, stderr=subprocess.STDOUT, text=True)
        if store == "folder":  # one worker is killed in mid-training
            (victim, *_) = wait_for(lambda: _training(list(processes)), 500)
            os.killpg(processes[victim].pid, signal.SIGKILL)
        assert run.wait(1500) == 0, (tmp_path / "said").read_text()
    assert origin.lock() == first_run[0].lock()
    assert (origin.root / "metrics.json").read_bytes() == (first_run[0].root / "metrics.json").read_bytes()
    said = (tmp_path / "said").read_text()
    assert "so the stage runs here" not in said


def _training(clones: list[Path]) -> list[Path]:
    return [root for root in clones if any((root / _WORK).glob("*/*/*"))]
