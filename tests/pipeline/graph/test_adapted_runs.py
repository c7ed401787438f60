"""The real graph with runs that go on from each other: DVC starts them in order, and every later stage sees them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.pipeline.real_project import edit_params, real_project


@pytest.mark.slow
def test_adapted_runs_are_trained_in_order_probed_compared_and_shown(tmp_path: Path, repository: Path) -> None:
    project = real_project(tmp_path / "project", repository)
    tuned = {"name": "tuned", "method": "finetune", "labels": "truth", "from": "runs/random"}
    edit_params(
        project,
        runs=[{"name": "random", "method": "random", "labels": "none"}],
        adapt=[{"name": "more", "method": "simclr", "labels": "none", "from": "runs/tuned"}, tuned],
        methods={"random": {}, "tuned": {"epochs": 1, "percent": 10.0}, "more": {}},
        models=[],
        model_options={},
        features=[],
        extractors={},
        mines=[],
        mining={},
        embed__augmented=0,
        suites=[{"name": "quality"}],
        probes={"quality": {"knn": {}}},
        representations__probes={},
        checks=[{"run": "tuned", "seed": 0, "group": "finetune"}],
        image_probes={"finetune": {"adversarial": {"images": 8, "steps": 1}}},
    )
    project.reprise("repro")
    config = json.loads((project.root / "data/runs/more/0/config.json").read_text())
    assert [step["run"] for step in config["before"]] == ["random", "tuned"]
    metrics = json.loads((project.root / "metrics.json").read_text())
    assert {run: sorted(figures) for run, figures in metrics.items()} == {
        "random": ["knn"],
        "tuned": ["adversarial", "knn"],
        "more": ["knn"],
    }
    page = (project.root / "data/report/index.html").read_text(encoding="utf-8")
    assert "none (has seen true labels)" in page
    edit_params(project, methods__tuned__percent=20.0)
    said = project.dvc("status").stdout
    assert "adapt@run1-0" in said
    assert "pretrain@run0-0" not in said
