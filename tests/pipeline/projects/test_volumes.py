"""A folder of volumes becomes a project, and its whole graph runs: `reprise init`, `reprise repro`, a report."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.images.clusters import StoredImages
from pipeline.projects.init import make_project
from reprise.artifacts.shards import Shards
from tests.volumes import take_in, write_shards_of_it, write_volumes

COMMAND = "from pipeline.cli.main import main; main()"


def test_a_folder_of_volumes_gets_their_preset(tmp_path: Path) -> None:
    write_volumes(tmp_path / "solids", 8)
    made = make_project(tmp_path / "project", images=tmp_path / "solids")
    assert made.preset == "volumes"
    assert "8 volumes by name" in made.lines[0]
    text = (tmp_path / "project/params.yaml").read_text(encoding="utf-8")
    assert "modality: volume" in text
    assert "  batch_size: 8 " in text
    assert "  min_train_images: 2 " in text


def test_a_stored_volume_is_found_by_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_volumes(Path("solids"), 8)
    take_in(Path("solids"))
    write_shards_of_it()
    data, extension = StoredImages().read(str(Shards.open().keys[0]))
    assert extension == "npy"
    assert np.load(io.BytesIO(data)).shape == (8, 8, 8, 1)


@pytest.mark.slow
def test_the_whole_graph_runs_on_volumes(tmp_path: Path, repository: Path) -> None:
    write_volumes(tmp_path / "solids", 160, 16)
    project = tmp_path / "project"
    make_project(project, images=tmp_path / "solids")
    params = (project / "params.yaml").read_text(encoding="utf-8")
    params = params.replace("size: 32 ", "size: 16 ").replace("epochs: 20 ", "epochs: 2 ")
    (project / "params.yaml").write_text(params, encoding="utf-8")
    env = os.environ | {"PYTHONPATH": str(repository)}
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "repro"], cwd=project, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    metrics = json.loads((project / "metrics.json").read_text(encoding="utf-8"))
    assert set(metrics) == {"random", "simclr"}
    assert 0 <= metrics["simclr"]["knn"]["top1"] <= 1
    page = (project / "data/report/index.html").read_text(encoding="utf-8")
    assert "They are volumes, all of 16 × 16 × 16 values." in page
    assert "near-copies are found among images only" in page
