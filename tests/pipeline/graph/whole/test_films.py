"""A folder of films goes through the whole graph to the report, with a method that trains on pairs of frames."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

from reprise.artifacts.facts.names import read_names
from reprise.artifacts.labels.pairs import read_pairs
from tests.films import scenes, write_film
from tests.pipeline.dvc_project import Project
from tests.pipeline.real_project import real_project

pytest.importorskip("av")
pytestmark = pytest.mark.slow
BACKGROUNDS = {"dark": (20, 30, 90), "light": (210, 220, 190)}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Project:
    """Eight films of two classes, in each of which a square moves; one epoch of two runs, and the report."""
    root = tmp_path_factory.mktemp("films")
    project = real_project(root, repository)
    for label, background in BACKGROUNDS.items():
        for number, split in enumerate(("train", "train", "val", "test")):
            pictures = scenes(24, background=background, seed=1 + number)
            write_film(root / f"films/{split}/{label}/{number}.mp4", pictures)
    (root / "films/train/dark/broken.mp4").write_bytes((root / "films/train/dark/0.mp4").read_bytes()[:-50])
    yaml = YAML()
    params = yaml.load((root / "params.yaml").read_text(encoding="utf-8"))
    params |= {
        "runs": [
            {"name": "random", "method": "random", "labels": "none"},
            {"name": "pairs", "method": "pair_contrast", "labels": "frames"},
        ],
        "methods": {"random": {}, "pairs": {}},
        "models": [],
        "model_options": {},
        "features": [{"name": "pixels", "extractor": "pixels"}],
        "extractors": {"pixels": {}},
        "mines": [{"name": "frames", "miner": "frame_matching", "on": "features/pixels"}],
        "mining": {"frames": {"gap": 2}},
        "source": {"name": "video", "root": "films", "options": {"shots": "detect"}},
    }
    params["validate"] |= {"min_train_images": 20, "min_images_per_class": 1, "max_quarantined": 0.1}
    params["train"] |= {"batch_size": 32, "epochs": 1, "warmup_epochs": 0}
    with (root / "params.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(params, file)
    project.commit("films")
    project.reprise("repro", REPRISE_THREADS="1")
    return project


def test_frames_of_a_film_become_pairs_of_a_run_and_reach_the_report(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)
    names = read_names()
    pairs = read_pairs(project.root / "data/mine/frames/0/pairs.parquet").to_pylist()
    assert len(pairs) > 20
    for pair in pairs:
        (film, frame), (other, later) = (names[pair[key]].rsplit("/", 1) for key in ("first", "second"))
        assert film == other and abs(int(later[:8]) - int(frame[:8])) == 2
    config = json.loads((project.root / "data/runs/pairs/0/config.json").read_text())
    assert config["pairs"]["pairs"] == len(pairs)
    report = (project.root / "data/report/index.html").read_text(encoding="utf-8")
    assert "Frames of films" in report and "broken.mp4" in report and "truncated" in report
    assert "0.mp4/shot-0000/" in report


def test_no_later_stage_reads_films(project: Project) -> None:
    manifest = pq.read_table(project.root / "data/ingest/manifest.parquet")
    assert set(manifest["format"].to_pylist()) == {"PNG"}
    assert set(manifest["path"].to_pylist()) == {"data/ingest/images.tar"}
    assert (project.root / "data/shards/names.parquet").exists()
