"""What docs/how-to/change-parameters.md shows works as it says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.pipeline.dvc_project import Project, new_project
from tests.pipeline.real_project import edit_params

pytestmark = pytest.mark.xdist_group("graph")  # one worker runs the real graph once, and nobody waits for it


def test_metrics_and_params_read_well(real: Project) -> None:
    shown = real.dvc("metrics", "show", "--md").stdout
    assert "gsimclr.knn.top1" in shown
    metrics = json.loads((real.root / "metrics.json").read_text())
    metrics["gsimclr"]["knn"]["top1"] = 0.123
    real.write("metrics.json", json.dumps(metrics))
    assert "gsimclr.knn.top1" in real.dvc("metrics", "diff", "--md").stdout
    edit_params(real, methods__gsimclr__temperature=0.3)
    changed = real.dvc("params", "diff", "--md").stdout
    assert "methods.gsimclr.temperature" in changed
    assert "0.3" in changed


def test_plots_hold_a_line_for_each_run_that_trains(real: Project) -> None:
    real.dvc("plots", "show", "--out", "plots")
    page = (real.root / "plots/index.html").read_text(encoding="utf-8")
    assert "Training loss" in page
    assert "gsimclr" in page
    assert '"color": {"field": "run"' in page


def test_plots_of_watches_are_uncommented(tmp_path: Path, repository: Path) -> None:
    """The plot that dvc.yaml holds as a comment draws every figure of the file that a watched run leaves."""
    project = new_project(tmp_path)
    shutil.copytree(repository / ".dvc/plots", tmp_path / ".dvc/plots")
    _, _, plots = (repository / "dvc.yaml").read_text(encoding="utf-8").partition("\nplots:\n")
    [line] = [line for line in plots.splitlines() if line.startswith("# - watches: ")]
    project.write("dvc.yaml", f"plots:\n{line.replace('# ', '  ', 1)}\n")
    rows = [
        f"{run},{seed},{e},{e},scale,{name},{e}.5" for run in "ab" for seed in (0, 1) for e in (0, 1) for name in "xy"
    ]
    project.write("data/summary/watches.csv", "\n".join(["run,seed,epoch,step,watch,figure,value", *rows]) + "\n")
    shown = project.dvc("plots", "show", "--out", "plots")
    page = (tmp_path / "plots/index.html").read_text(encoding="utf-8")
    assert "failed to load" not in shown.stderr
    assert page.count('"figure": "x"') == page.count('"figure": "y"') == 8
    assert '"facet": {"field": "seen"' in page
    assert "What the watches saw" in page


def test_push_pull_and_artifacts_go_through_a_local_remote(real: Project, tmp_path: Path) -> None:
    real.dvc("remote", "add", "--default", "store", str(tmp_path / "store"))
    real.commit("a remote")
    real.dvc("push")
    weights = (real.root / "data/runs/gsimclr/0/backbone.safetensors").read_bytes()
    real.call("git", "tag", "--annotate", "gsimclr@v1.0.0", "--message", "a release")
    real.dvc("artifacts", "get", str(real.root), "gsimclr", "--out", str(tmp_path / "got"))
    assert (tmp_path / "got/backbone.safetensors").read_bytes() == weights
    for lost in (".dvc/cache", "data/runs", "data/shards"):
        shutil.rmtree(real.root / lost)
    real.dvc("pull")
    assert (real.root / "data/runs/gsimclr/0/backbone.safetensors").read_bytes() == weights
    assert "Running stage" not in real.dvc("repro").stdout


@pytest.mark.slow
def test_experiments_change_one_parameter(real: Project) -> None:
    real.dvc("exp", "run", "--set-param", "methods.gsimclr.temperature=0.3", "--name", "warmer")
    assert "warmer" in real.dvc("exp", "show", "--md").stdout
    assert "0.3" in real.dvc("params", "diff", "--md").stdout


@pytest.mark.slow
def test_experiments_queue(real: Project) -> None:
    for k in (5, 10):
        real.dvc("exp", "run", "--queue", "--set-param", f"probes.quality.knn.k={k}", "--name", f"k{k}")
    real.dvc("exp", "run", "--run-all")
    shown = real.dvc("exp", "show", "--md").stdout
    assert "k5" in shown
    assert "k10" in shown
