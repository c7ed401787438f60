"""The table `models`: converted weights with an account, copies for the runs that use them, and what is refused."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML
from safetensors.numpy import save_file

from reprise.artifacts.models import read_start
from reprise.artifacts.weights.backbones import open_weights, read_config, read_weights, write_backbone
from reprise.config.errors import BackboneError, ParameterError
from reprise.config.params import read_yaml
from reprise.config.tables import ModelRow
from reprise.networks.assemble import assemble
from reprise.networks.backbone import build_backbone
from reprise.networks.state import arrays_of
from reprise.storage.work_folder import file_digest
from stages.check.code import modules_by_file
from stages.check.parameters import problems
from stages.models.__main__ import main

FILE = {"name": "mine", "weights": "moco.pth", "architecture": "resnet_tiny"}


@pytest.fixture
def raw(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The parameters of the repository in an empty folder with a file of weights."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(3)
    network = build_backbone("resnet_tiny", 3, 32)
    torch.save({"state_dict": {f"module.encoder_q.{n}": v for n, v in network.state_dict().items()}}, "moco.pth")
    found = copy.deepcopy(read_yaml(repository / "params.yaml"))
    found |= {"models": [], "model_options": {}, "extractors": {"dae": {}}}  # none is trained here
    found["features"] = [{"name": "dae", "extractor": "pixels"}]
    return found


def convert(raw: dict[str, Any], *rows: dict[str, Any]) -> None:
    raw["models"] = list(rows)
    with Path("params.yaml").open("w", encoding="utf-8") as file:
        YAML().dump(raw, file)
    main([])


def test_without_models_every_run_has_a_note_and_no_more(raw) -> None:
    convert(raw)
    assert sorted(p.name for p in Path("data/starts").iterdir()) == sorted(row["name"] for row in raw["runs"])
    assert [p.name for p in Path("data/starts/simclr").iterdir()] == ["start.json"]
    assert read_start("simclr").config is None
    assert list(Path("data/models").iterdir()) == []


def test_a_file_becomes_a_backbone_with_an_account(raw, capsys) -> None:
    raw["runs"][3]["from"] = "models/mine"
    convert(raw, FILE)
    folder = Path("data/models/mine")
    config = read_config(folder)
    assemble(config, *open_weights(folder), where="mine")
    assert (config["source"], config["input_size"], len(config["sha256"])) == ("moco.pth", 32, 64)
    account = json.loads((folder / "mapping.json").read_text(encoding="utf-8"))
    assert (account["prefix"], account["part"], account["left_out"]) == ("module.encoder_q.", "state_dict", [])
    said = capsys.readouterr().err
    assert config["sha256"] in said
    assert "The prefix 'module.encoder_q.' was cut" in said
    start = read_start("simclr")
    assert start.name == "models/mine"
    assert file_digest(start.folder) == file_digest(folder)
    before = {run: file_digest(Path("data/starts", run)) for run in ("simclr", "random")}
    convert(raw, FILE, {**FILE, "name": "other"})
    assert before == {run: file_digest(Path("data/starts", run)) for run in ("simclr", "random")}


def test_the_folder_of_a_run_and_published_weights_become_backbones(raw, monkeypatch) -> None:
    network = build_backbone("resnet10t", 3, 32, "imagenet")
    weights = arrays_of(network.state_dict())
    save_file({**weights, "fc.weight": np.zeros((10, 512), np.float32)}, "hub.safetensors")
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda repository, file, revision: "hub.safetensors")
    convert(raw, FILE)
    Path("earlier").mkdir()
    write_backbone(Path("earlier"), *read_weights("data/models/mine"), read_config("data/models/mine"))
    rows = ({"name": "run", "weights": "earlier"}, {"name": "hub", "weights": "timm:resnet10t", "size": 32})
    convert(raw, *rows)
    assert read_config("data/models/run")["source"] == "earlier"
    hub = read_config("data/models/hub")
    assert (hub["architecture"], hub["input_size"], hub["crop_pct"]) == ("resnet10t", 32, 0.875)
    assert "1 tensor of the file did not go into the network: fc.weight." in hub["notes"]


def test_an_exchanged_file_and_no_network_are_sentences(raw, monkeypatch) -> None:
    def download(repository: str, file: str, revision: str | None) -> str:
        raise OSError("no route")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    with pytest.raises(BackboneError, match="not those that the row names"):
        convert(raw, {**FILE, "sha256": "0" * 64})
    with pytest.raises(BackboneError, match=r"https://huggingface.co/timm/resnet10t\S*/resolve/main/model.safetensors"):
        convert(raw, {"name": "hub", "weights": "timm:resnet10t"})
    with pytest.raises(BackboneError, match="the weights are not there"):
        convert(raw, {**FILE, "weights": "gone.pth"})
    with pytest.raises(ParameterError, match="architecture belongs to files"):
        convert(raw, {"name": "a", "weights": "moco.pth"})
    assert not Path("data/models").exists()


def test_runs_are_held_against_the_table(raw) -> None:
    raw["models"] = [FILE, {"name": "inside", "weights": "data/runs/simclr/0"}]
    raw["runs"][0]["from"] = "models/mine"  # random
    raw["runs"][3]["from"] = "models/mime"
    raw["runs"][4]["teacher"] = "models/mine"
    raw["runs"] += [
        {"name": "published", "method": "published", "labels": "none"},
        {"name": "distill", "method": "distill", "labels": "none"},
        {"name": "more", "method": "simclr", "labels": "none", "from": "models/mine"},
    ]
    raw["methods"] |= {"published": {}, "distill": {}, "more": {"backbone": "resnet20"}}
    found = {problem.path: str(problem) for problem in problems(raw)}
    assert sorted(found) == [
        "methods.more.backbone", "models[1].weights", "runs[0].from", "runs[3].from",
        "runs[4].teacher", "runs[5].from", "runs[6].teacher",
    ]  # fmt: skip
    assert "Did you mean 'models/mine'?" in found["runs[3].from"]
    assert "`reprise get" in found["models[1].weights"]


def test_a_run_that_starts_from_weights_has_their_network(raw) -> None:
    raw["models"] = [{**FILE, "architecture": "resnet20"}]
    before = dict(modules_by_file(raw))
    raw["runs"][3]["from"] = "models/mine"
    assert problems(raw) == []
    after = dict(modules_by_file(raw))
    assert {name for name in after if after[name] != before[name]} == {"pretrain/simclr", "embed/simclr"}
    assert "reprise.networks.backbones.resnet20" in after["pretrain/simclr"]
    assert ModelRow.model_validate(FILE).is_file
