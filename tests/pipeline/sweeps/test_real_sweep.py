"""A sweep on the real graph: a kill while a network trains, points at once, and the plan that comes with Reprise."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pipeline.graph.lock_file import read_lock
from pipeline.processes.commands import environment
from pipeline.sweeps.runner import load_plan, run_sweep
from tests.faults.killing import family
from tests.pipeline.dvc_project import REPRISE, Project, wait_for
from tests.pipeline.real_project import edit_params, real_project

POINTS = "name: two\nparallel: 2\npoints: [{}, {train.epochs: 3}, {probes.quality.knn.k: 10}]\n"


def test_the_plan_that_comes_with_reprise_can_be_read(repository: Path) -> None:
    assert len(load_plan(repository / "sweeps/temperature.yaml").expanded()) == 3


@pytest.mark.slow
def test_a_point_killed_while_it_trains_continues_and_ends_with_the_same_hashes(
    tmp_path: Path, repository: Path
) -> None:
    project = real_project(tmp_path / "project", repository)
    edit_params(project, train__checkpoint_steps=1)
    project.commit("checkpoints at every step")
    project.reprise("repro")
    project.commit("the first run")
    project.write("../plan.yaml", POINTS)
    first = subprocess.Popen([*REPRISE, "sweep", "../plan.yaml"], cwd=project.root, env=environment())
    saved = project.root / ".reprise/sweeps"
    checkpoints = "two-*/*/pretrain/gsimclr/0/*/*"
    wait_for(lambda: any("step" in path.name for path in saved.glob(checkpoints)), seconds=400, interval=0.02)
    first.kill()
    first.wait()

    result = run_sweep(load_plan(tmp_path / "plan.yaml"), root=project.root, say=lambda line: None, on_line=print)
    assert [point.state for point in result.points] == ["done before", "done", "done"]
    undisturbed = Project(tmp_path / "undisturbed")
    project.call("git", "clone", "--quiet", str(project.root), str(undisturbed.root))
    edit_params(undisturbed, train__epochs=3)
    undisturbed.reprise("repro")
    applied = Project(tmp_path / "applied")
    project.call("git", "clone", "--quiet", str(project.root), str(applied.root))
    applied.call("git", "fetch", "--quiet", "origin", result.points[1].experiment or "")
    applied.call("git", "checkout", "--quiet", result.points[1].experiment or "")
    assert _outs(applied.root) == _outs(undisturbed.root)
    for folder in saved.rglob("tree"):
        assert family(folder) == []
    assert project.call("git", "status", "--porcelain").stdout == ""


def _outs(root: Path) -> dict[str, object]:
    return {name: entry["outs"] for name, entry in read_lock(root).items()}
