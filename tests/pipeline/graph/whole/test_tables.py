"""A table with captions goes through the whole graph to the report, with a method that trains on the captions."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

from stages.ingest.sources.shapes import Shapes
from tests.pipeline.dvc_project import Project
from tests.pipeline.real_project import edit_params, real_project

pytestmark = pytest.mark.slow
IMAGES = 200


def write_table(folder: Path) -> None:
    """Write drawn pictures, and a table that says of each its shape, the size of the shape, and two captions."""
    folder.mkdir()
    pictures = Shapes(folder, Shapes.Params(images=IMAGES, size=24)).candidates()
    with (folder / "pictures.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "shape", "scale", "text", "remark"])
        for number, picture in enumerate(pictures):
            assert isinstance(picture.reference, bytes)
            (folder / f"{number:03d}.png").write_bytes(picture.reference)
            for caption in picture.facts["caption"]:  # a row for each, as many published tables have it
                table.writerow([f"{number:03d}.png", picture.label, picture.facts["scale"], caption, "=1+1"])
        table.writerow(["lost.png", "arrow", 0.3, "nothing", ""])


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Project:
    """Two runs of one epoch on the table, and the report."""
    root = tmp_path_factory.mktemp("tables")
    project = real_project(root, repository)
    write_table(root / "pictures")
    yaml = YAML()
    params = yaml.load((root / "params.yaml").read_text(encoding="utf-8"))
    params |= {
        "runs": [
            {"name": "random", "method": "random", "labels": "none"},
            {"name": "clip", "method": "clip", "labels": "none"},
        ],
        "methods": {"random": {}, "clip": {"text_width": 32, "vocabulary": 300}},
        "models": [],
        "model_options": {},
        "features": [],
        "extractors": {},
        "mines": [],
        "mining": {},
        "source": {
            "name": "table",
            "root": "pictures/pictures.csv",
            "split": {"by": "stratified"},
            "near_copies": "report",
            "options": {
                "image": "file",
                "label": "shape",
                "facts": {
                    "caption": {"kind": "caption", "use": "given", "column": "text"},
                    "scale": {"kind": "number"},
                },
            },
        },
    }
    params["validate"] |= {"min_train_images": 100, "min_images_per_class": 5}
    params["train"] |= {"batch_size": 64, "epochs": 2, "warmup_epochs": 0}
    with (root / "params.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(params, file)
    project.commit("a table")
    project.reprise("repro", REPRISE_THREADS="1")
    return project


def test_captions_of_the_table_train_a_run_and_what_was_read_is_in_the_report(project: Project) -> None:
    config = json.loads((project.root / "data/runs/clip/0/config.json").read_text())
    assert config["reads"] == ["caption"]
    assert (project.root / "data/runs/clip/0/text.json").exists()
    captions = pq.read_table(project.root / "data/facts/all/captions.parquet")
    assert captions.num_rows == 2 * IMAGES
    report = (project.root / "data/report/index.html").read_text(encoding="utf-8")
    for words in ("Images of a table", "Columns that are not used: remark.", "missing_file", "lost.png"):
        assert words in report, words


def test_a_changed_cell_runs_ingest_again_and_a_changed_remark_no_training(project: Project) -> None:
    """The digest covers the table; what no option names reaches no later stage."""
    project.replace("pictures/pictures.csv", "=1+1", "=2+2")
    project.reprise("repro", REPRISE_THREADS="1")
    ran = json.loads((project.root / ".reprise/provenance/ingest.json").read_text())
    trained = json.loads((project.root / ".reprise/provenance/pretrain/clip/0.json").read_text())
    assert trained["began"] < ran["began"]
    edit_params(project, source__split={"by": "stratified_folds", "folds": 4, "fold": 1})
    project.reprise("repro", "ingest", REPRISE_THREADS="1")
    counts = json.loads((project.root / "data/ingest/dataset.json").read_text())["counts"]
    assert 48 <= counts["test"] <= 52
