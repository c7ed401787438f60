"""What docs/how-to/change-parameters.md shows works as it says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.pipeline.dvc_project import Project
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
