"""Any backbone on any folder of images: the working folder, the output, and the commands with the real stages."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from ruamel.yaml import YAML
from safetensors.numpy import save_file
from typer import BadParameter

from pipeline.cli import main
from pipeline.cli.backbones.evaluate import _reading
from pipeline.cli.output import to_json
from pipeline.compare import evaluation, representations
from pipeline.compare.evaluation import Backbone, EvaluationResult, prepare_work_folder
from reprise.config.errors import ResultError, SourceError, StorageError
from reprise.config.params import read_yaml
from reprise.networks.backbone import build_backbone
from reprise.networks.state import arrays_of
from stages.check.parameters import problems
from tests.pipeline.cli.answers import strict

PROBES = {"quality": {"knn": {}, "label_alignment": {}}}
LABEL_FREE = {"label_free": {"spectrum": {}, "invariance": {}}}


@pytest.fixture
def project(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like a project with a suite of quick probes, and 90 images in two classes."""
    (tmp_path / "params.yaml").write_bytes((repository / "params.yaml").read_bytes())
    choose_probes(tmp_path, PROBES)
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    rng = np.random.default_rng(0)
    for i in range(90):
        folder = tmp_path / "images" / ("dark", "light")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 100, (16, 16, 3)) + 120 * (i % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    (tmp_path / "images/dark/broken.png").write_bytes(b"no image")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def choose_probes(project: Path, probes: dict[str, Any]) -> None:
    """These probes and no others in params.yaml."""
    raw = read_yaml(project / "params.yaml")
    raw |= {"probes": probes, "suites": [{"name": name} for name in probes]}
    with (project / "params.yaml").open("w") as file:
        YAML().dump(raw, file)


def command(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """`reprise ...`; its exit status."""
    monkeypatch.setattr(sys, "argv", ["reprise", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main.main()
    return int(ended.value.code or 0)


def test_the_working_folder_is_a_valid_project_of_one_run(project: Path, repository: Path) -> None:
    work = project / "work"
    prepare_work_folder(work, Path("images"), repository / "params.yaml", augmented=True)
    raw = read_yaml(work / "params.yaml")
    assert raw["source"]["root"] == str(project / "images")
    assert raw["probes"] == read_yaml(repository / "params.yaml")["probes"]
    wrong = [str(p) for p in problems(raw) if "missing section" not in str(p)]
    assert [
        p for p in wrong if not p.startswith(("extractors", "mining", "methods", "model_options"))
    ] == []  # of stages not run here
    prepare_work_folder(work, Path("images"), repository / "params.yaml", augmented=False)
    assert read_yaml(work / "params.yaml")["embed"]["augmented"] == 0


def test_a_folder_with_other_things_is_left_alone(project: Path) -> None:
    with pytest.raises(StorageError, match="holds something else"):
        prepare_work_folder(project, Path("images"), Path("params.yaml"), augmented=True)
    with pytest.raises(SourceError, match="no such folder"):
        prepare_work_folder(project / "work", Path("absent"), Path("params.yaml"), augmented=True)
    assert not (project / "work").exists()


def test_how_folders_are_read_can_be_said_on_the_command_line(project: Path) -> None:
    reading = _reading(["labels=none", "splits={training_set: train}", "group_pattern=a=b"])
    assert reading == {"labels": "none", "splits": {"training_set": "train"}, "group_pattern": "a=b"}
    prepare_work_folder(project / "work", Path("images"), Path("params.yaml"), augmented=False, reading=reading)
    assert read_yaml(project / "work/params.yaml")["source"]["options"] == reading
    for wrong in ("labels", "=none", "splits={a"):
        with pytest.raises(BadParameter, match="write NAME=VALUE"):
            _reading([wrong])


def test_paths_are_absolute_and_timm_names_are_not() -> None:
    assert Backbone("a/b", ("--size", "32")).arguments() == ["--backbone", str(Path.cwd() / "a/b"), "--size", "32"]
    assert Backbone("timm:resnet18").arguments() == ["--backbone", "timm:resnet18"]


def test_a_result_as_rows_notes_and_json() -> None:
    figures = {"knn": {"top1": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9}}}
    figures["spectrum"] = {"rankme": {"value": 3.0, "low": None, "high": None, "n": 9}}
    protocol = {"linear": {"note": "not run: no image has a label"}, "knn": {"k": "5"}}
    result = EvaluationResult({"test": 9}, {}, figures, protocol)
    assert result.rows() == [
        ["knn", "top1", "0.5000", "[0.4000, 0.6000]", "9"],
        ["spectrum", "rankme", "3.0000", "", "9"],
    ]
    assert result.notes() == ["linear: not run: no image has a label"]
    content = strict(to_json(evaluation.evaluation_document(result, Backbone("timm:x"), Path("images"))))
    assert (content["backbone"], content["metrics"]) == ("timm:x", figures)


def test_an_evaluation_of_foreign_weights(project: Path, monkeypatch, capsys) -> None:
    save_file(arrays_of(build_backbone("resnet_tiny", 3, 16).state_dict()), "foreign.safetensors")
    options = ["--backbone", "foreign.safetensors", "--architecture", "resnet_tiny", "--size", 16, "--data", "images"]
    assert command(monkeypatch, "probe", *options, "--out", "result.json", "--work", "work") == 0
    printed = capsys.readouterr()
    lines = [line.split("\t") for line in printed.out.splitlines()]
    assert lines[0] == ["probe", "metric", "value", "interval", "images"]
    assert {line[0] for line in lines[1:]} == {"knn", "label_alignment"}
    (top1,) = [line for line in lines if line[:2] == ["knn", "top1"]]
    assert float(top1[2]) > 0.9  # dark or light is read off even random features
    assert "refused: 1 not_an_image; see work/data/ingest/quarantine.parquet" in printed.err
    content = json.loads(Path("result.json").read_text())
    assert sum(content["images"].values()) == 90
    assert content["refused"] == {"not_an_image": 1}
    assert content["protocol"]["knn"]["similarity"] == "cosine"
    files = evaluation.copy_embeddings(Path("work"), Path("out/e.parquet"))
    assert [path.name for path in files] == ["e.parquet", "e.manifest.parquet", "e.quarantine.parquet"]
    table, manifest = pq.read_table(files[0]), pq.read_table(files[1])
    assert table["backbone"].type.list_size == 64
    assert table["key"].to_pylist() == manifest["key"].to_pylist()
    assert set(manifest["label"].to_pylist()) == {"dark", "light"}


@pytest.mark.slow
def test_embeddings_of_unlabelled_images(project: Path, monkeypatch, capsys) -> None:
    choose_probes(project, {**PROBES, **LABEL_FREE})
    for path in list(Path("images").rglob("*.png")):
        path.rename(Path("images") / path.name)
    for folder in ("dark", "light"):
        (Path("images") / folder).rmdir()
    options = ["--backbone", "timm:resnet10t", "--size", 32, "--data", "images"]
    assert command(monkeypatch, "embed", *options, "--out", "e.parquet") == 0
    assert capsys.readouterr().out.splitlines() == ["e.parquet", "e.manifest.parquet", "e.quarantine.parquet"]
    assert pq.read_table("e.parquet").num_rows == 90
    assert set(pq.read_table("e.manifest.parquet")["label"].to_pylist()) == {None}
    assert command(monkeypatch, "probe", *options) == 0
    printed = capsys.readouterr()
    assert "knn: not run: no image has a label" in printed.err
    assert {line.split("\t")[0] for line in printed.out.splitlines()[1:]} == {"spectrum", "invariance"}


def test_an_unknown_backbone_is_one_sentence(project: Path, monkeypatch, capsys) -> None:
    assert command(monkeypatch, "embed", "--backbone", "images", "--data", "images", "--out", "e.parquet") == 1
    errors = capsys.readouterr().err
    assert "error: this is not the folder of a run" in errors
    assert "Traceback" not in errors
    assert not Path("e.parquet").exists()


# ---- representations at several revisions -----------------------------------------------------------------


def test_embeddings_of_a_revision_are_fetched_or_named_as_missing(project: Path, monkeypatch) -> None:
    requested: list[tuple[str, str]] = []

    def fetch(commit: str, path: str, target: Path, root: Path) -> bool:
        requested.append((commit, path))
        if "simclr" in path:
            target.mkdir(parents=True)
            (target / "embeddings.parquet").write_bytes(b"")
        return True

    monkeypatch.setattr(representations, "fetch_at", fetch)
    monkeypatch.setattr(representations, "resolve", lambda revision, root: f"commit of {revision}")
    files = representations.fetch_embeddings("v1", ["simclr"], 0, project / "scratch")
    assert requested == [("commit of v1", "data/embed/simclr/0")]
    assert files == {"simclr": project / "scratch/v1/simclr/0/embeddings.parquet"}
    with pytest.raises(ResultError, match="no byol of seed 0"):
        representations.fetch_embeddings("v1", ["byol"], 0, project / "scratch")
    with pytest.raises(ResultError, match="no run of seed 0"):
        representations.fetch_embeddings("workspace", [], 0, project / "scratch", project)


def test_matrices_as_tables() -> None:
    similarity: dict[str, Any] = {"caption": "1: alike", "metrics": {"cka": [[1.0, None], [0.25, 1.0]]}}
    comparison = {"encoders": [{"name": "a"}, {"name": "b"}], "probes": {"similarity": similarity}}
    assert representations.similarity_tables(comparison) == [
        ("similarity.cka: 1: alike", [["a", "1.0000", "-"], ["b", "0.2500", "1.0000"]]),
    ]
