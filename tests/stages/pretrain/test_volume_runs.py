"""Runs on volumes: methods that declare it train, resume exactly, and are read back; others are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reprise.artifacts.shards import Shards
from reprise.artifacts.weights.backbones import open_weights, read_config
from reprise.config.errors import TrainingError
from reprise.config.params import ImageParams
from reprise.config.plug_ins.registry import load_class
from reprise.config.tables import RunRow
from reprise.networks.assemble import assemble
from reprise.storage.work_folder import file_digest
from reprise.training.params import TrainParams
from stages.embed.embedding import embed
from stages.embed.params import EmbedParams
from stages.pretrain.method import Method
from stages.pretrain.run import pretrain
from tests.stages.pretrain.conftest import write_label_set
from tests.volumes import take_in, write_shards_of_it, write_volumes

IMAGE = ImageParams(size=8, channels=1)
TRAIN = TrainParams(
    backbone="resnet3d_tiny", epochs=2, batch_size=8, optimizer="adamw", learning_rate=1e-3, warmup_epochs=0,
    weight_decay=0.01, device="cpu", checkpoint_steps=1, on_collapse="warn",
)  # fmt: skip


@pytest.fixture
def volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder becomes a workspace with shards of 40 volumes and the label sets `none` and `mined`."""
    monkeypatch.chdir(tmp_path)
    write_volumes(Path("solids"))
    take_in(Path("solids"))
    write_shards_of_it()
    shards = Shards.open()
    keys = shards.keys[shards.rows("train")]
    write_label_set("none", keys, np.full(len(keys), -1))
    write_label_set("mined", keys, np.arange(len(keys)) % 4)
    return tmp_path


def run(method: str, out: str, train: TrainParams = TRAIN, labels: str = "none", **options: Any) -> Path:
    kind = load_class("methods", method, Method, "runs")  # type: ignore[type-abstract]
    row = RunRow.model_validate({"name": method, "method": method, "labels": labels})
    pretrain(row, 0, IMAGE, train, kind.Params(**options), Path(out), restart=False)
    return Path(out)


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("byol", "vicreg", "moco_v3", "barlow_twins", "nnclr")]


@pytest.mark.parametrize("method", ["simclr", "supervised", *SLOW])
def test_a_method_that_takes_volumes_trains_and_is_read_back(volumes: Path, method: str) -> None:
    out = run(method, "out", labels="mined" if method == "supervised" else "none")
    config = read_config(out)
    network = assemble(config, *open_weights(out), where="out")
    assert network(torch.zeros(2, 1, 8, 8, 8))["backbone"].shape == (2, 64)
    assert config["flops_per_image"] > 0
    assert config["views"]["changes"][0]["name"] == "volume_crop"


def test_an_interrupted_run_goes_on_to_the_same_bytes(volumes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = file_digest(run("simclr", "whole"))
    real, calls = torch.optim.AdamW.step, []

    def step(self: Any, *arguments: Any, **keywords: Any) -> Any:
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return real(self, *arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", step)
        with pytest.raises(KeyboardInterrupt):
            run("simclr", "resumed")
    assert file_digest(run("simclr", "resumed")) == whole


def test_volumes_are_embedded_and_changed_copies_left_out_with_a_note(
    volumes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("random", "data/runs/random/0")
    embed("random", 0, EmbedParams(), Path("embedded"))
    assert (Path("embedded") / "embeddings.parquet").exists()
    assert not (Path("embedded") / "augmented.parquet").exists()
    assert "no changed copies are embedded (embed.augmented)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("method", "backbone", "match"),
    [
        ("simmim", "resnet3d_tiny", "method 'simmim' is not made for volumes"),
        ("simclr", "resnet_tiny", "the backbone resnet_tiny does not see volumes"),
    ],
)
def test_what_is_made_for_images_is_refused(volumes: Path, method: str, backbone: str, match: str) -> None:
    with pytest.raises(TrainingError, match=match):
        run(method, "out", TRAIN.model_copy(update={"backbone": backbone}))
