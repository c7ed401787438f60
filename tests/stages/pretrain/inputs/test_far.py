"""Runs whose shards lie in a store: the bytes of local ones, in windows, resumed exactly, in several processes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from reprise.artifacts.layout import SHARDS
from reprise.artifacts.shards import Shards
from reprise.artifacts.tars import opened
from reprise.artifacts.tars.far import CACHE, FarTars
from reprise.artifacts.weights.backbones import read_config
from reprise.config.errors import TrainingError
from reprise.config.params import read_yaml
from reprise.config.shared_sections import CacheParams
from reprise.config.stores import FarParams
from reprise.config.tables import RunRow
from reprise.reading.order import conflicts, global_batches
from reprise.reading.windows import Windows, windowed_batches
from reprise.runtime.seeds import numpy_rng
from reprise.storage.work_folder import file_digest
from stages.check.rules.relations import relation_problems
from stages.pretrain.methods.contrastive.gsimclr import GSimCLR
from stages.pretrain.methods.contrastive.simclr import SimCLR
from stages.pretrain.methods.pairs.triplet import Triplet
from stages.pretrain.run import pretrain
from tests.reprise.artifacts.tars.far_digits import packed
from tests.stages.pretrain.conftest import IMAGE, TINY

TRAIN = TINY.model_copy(update={"epochs": 2, "checkpoint_steps": 1})
ON_THE_WAY = CacheParams(max_bytes=0)  # no decoded images are kept: each is read in every epoch
TAR = 5_000  # bytes at most, with a few images in each; the 80 training images fill more than ten


def run(out: str, method: Any = SimCLR, labels: str = "none", cache: CacheParams = ON_THE_WAY, **train: Any) -> Path:
    row = RunRow(name="run", method=method.__module__.rsplit(".", 1)[-1], labels=labels)
    params = method.Params()
    pretrain(row, 0, IMAGE, TRAIN.model_copy(update=train), params, Path(out), restart=False, cache=cache)
    return Path(out)


@pytest.fixture
def far_digits(digits: Path) -> Path:
    """The tars of the workspace lie in a folder that is the store; `local` keeps a copy of data/shards with them."""
    packed(tar_bytes=TAR)
    shutil.copytree(SHARDS, "local")
    packed(f"file://{digits}/store", tar_bytes=TAR)
    return digits


@pytest.fixture
def small_room(far_digits: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Bytes of the cache: half of the tars that the runs train on."""
    shards = Shards.open()
    assert isinstance(shards.tars, FarTars)
    names = {shards.tar_names[number] for number in shards.of_tar[0][shards.rows("train")].tolist()}
    size = sum(map(shards.tars.size, names)) // 2
    monkeypatch.setattr(opened, "FarParams", lambda: FarParams.model_construct(max_bytes=size, **{
        name: field.default for name, field in FarParams.model_fields.items() if name != "max_bytes"
    }))  # fmt: skip
    return size


def window() -> int:
    """Bytes of a fifth of the training images; half of the room at most, which counts whole tars."""
    shards = Shards.open()
    number, sizes = shards.of_tar
    return int(sizes[np.unique(number[shards.rows("train")])].sum()) // 5


def bring_back() -> None:
    shutil.rmtree(SHARDS)
    shutil.copytree("local", SHARDS)


def test_a_run_has_the_bytes_of_local_shards_with_and_without_windows(
    far_digits: Path, small_room: int, capsys: pytest.CaptureFixture[str]
) -> None:
    windows = {"window_bytes": window()}
    far = {
        "windows": run("far-windows", **windows),
        "decoded": run("far-decoded", cache=CacheParams()),  # all images are kept decoded, so tars are read once
    }
    held = sum(path.stat().st_size for path in CACHE.iterdir() if not path.name.startswith(".lock"))
    assert 0 < held <= small_room
    said = capsys.readouterr().err
    assert re.search(r"goes through \d+ windows of tars of up to .* and shuffles images within each\.", said)
    bring_back()
    assert not Shards.open().tars.far
    local = {"windows": run("local-windows", **windows), "decoded": run("local-decoded", cache=CacheParams())}
    assert {name: file_digest(folder) for name, folder in far.items()} == {
        name: file_digest(folder) for name, folder in local.items()
    }
    weights = (folder / "backbone.safetensors" for folder in (local["windows"], run("local-plain")))
    assert len({file_digest(path) for path in weights}) == 2  # another order


def test_a_window_that_holds_everything_changes_nothing_but_the_parameter(far_digits: Path) -> None:
    weights = [run("a", window_bytes=1 << 30), run("b")]
    assert len({file_digest(folder / "backbone.safetensors") for folder in weights}) == 1
    assert read_config(weights[0])["parameters"]["train"]["window_bytes"] == 1 << 30
    assert "window_bytes" not in read_config(weights[1])["parameters"]["train"]
    assert "windows" not in json.dumps(read_config(weights[1])["notes"])


def test_an_order_that_would_fetch_the_same_tars_again_is_refused(far_digits: Path, small_room: int) -> None:
    with pytest.raises(
        TrainingError, match=rf"again and again.*no windows.*window_bytes to at most {small_room // 2} "
    ):
        run("out")
    with pytest.raises(TrainingError, match="again and again.*and windows of"):
        run("out", window_bytes=small_room)
    with pytest.raises(TrainingError, match="their partners, which windows of tars would part"):
        run("out", Triplet, labels="paired", window_bytes=small_room // 2)


def test_pairs_in_windows_are_refused_before_anything_runs(repository: Path) -> None:
    raw = read_yaml(repository / "params.yaml")
    raw["train"]["window_bytes"] = 1000
    raw["runs"] = [{"name": "triplet", "method": "triplet", "labels": "none"}]
    raw["methods"] = {"triplet": {}}
    assert [p for p in relation_problems(raw) if "windows of tars would part" in p.rule]


def test_guided_conflicts_are_those_of_a_naive_count_and_are_said(
    far_digits: Path, small_room: int, capsys: pytest.CaptureFixture[str]
) -> None:
    config = read_config(run("out", GSimCLR, labels="mined", window_bytes=window()))
    shards = Shards.open()
    tar, sizes = shards.of_tar
    clusters = np.arange(80) % 10
    drawn = Windows(tar[shards.rows("train")], sizes, window()).draw(numpy_rng(0, "windows", 0))
    batches = windowed_batches("guided", clusters, 16, drawn, numpy_rng(0, "batches", 0))
    meets = [
        any(clusters[a] == clusters[b] for j, b in enumerate(batch) if i != j)
        for batch in batches
        for i, a in enumerate(batch)
    ]
    assert config["sampling"]["share_affected"] == round(sum(meets) / 80, 6)
    assert config["sampling"]["windows"] == len(drawn) > 2
    whole = conflicts(clusters, global_batches("guided", clusters, 16, numpy_rng(0, "batches", 0))).share_affected
    said = f"{100 * sum(meets) / 80:.1f} % of the images of the first epoch meet another of their cluster in a batch"
    (note,) = [note for note in config["notes"] if "windows" in note]
    assert f"{said}, and {100 * whole:.1f} % would if all were shuffled at once." in note
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("killed_at", [pytest.param(3, marks=pytest.mark.slow), 8])
def test_interrupted_in_a_window_it_goes_on_with_the_same_bytes(
    far_digits: Path, small_room: int, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    windows = {"window_bytes": window(), "on_collapse": "warn"}
    whole = run("whole", **windows)
    real, calls = torch.optim.SGD.step, []

    def step(self: Any, *arguments: Any, **keywords: Any) -> Any:
        calls.append(1)
        if len(calls) == killed_at:
            raise KeyboardInterrupt
        return real(self, *arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.SGD, "step", step)
        with pytest.raises(KeyboardInterrupt):
            run("resumed", **windows)
    while CACHE.exists():  # it may go on elsewhere, where no tar is yet; a thread may still finish a fetch here
        shutil.rmtree(CACHE, ignore_errors=True)
    assert file_digest(run("resumed", **windows)) == file_digest(whole)


class Stage:
    """The stage as a process, on far shards in windows."""

    def __init__(self, repository: Path) -> None:
        self.repository = repository

    def start(self, processes: int, epochs: int) -> subprocess.Popen[str]:
        raw: dict[str, Any] = read_yaml(self.repository / "params.yaml")
        train = {
            "backbone": "resnet_tiny", "epochs": epochs, "batch_size": 16, "optimizer": "sgd", "weight_decay": 0.0,
            "learning_rate": 1e-5, "warmup_epochs": 1, "device": "cpu", "precision": "fp32", "checkpoint_steps": 2,
            "processes": processes, "window_bytes": 3 * TAR,
        }  # fmt: skip
        raw |= {
            "image": {"size": 16, "channels": 3}, "train": train, "adapt": [], "methods": {"simclr": {}},
            "runs": [{"name": "simclr", "method": "simclr", "labels": "none"}], "cache": {"max_bytes": 0},
        }  # fmt: skip
        Path("params.yaml").write_text(json.dumps(raw, default=str), encoding="utf-8")
        command = [sys.executable, "-P", self.repository / "stages/run.py", "stages.pretrain", "--run", "simclr"]
        return subprocess.Popen(
            [*map(str, command), "--seed", "0", "--quiet"], stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def finish(self, stage: subprocess.Popen[str]) -> Path:
        _, said = stage.communicate(timeout=240)
        assert stage.returncode == 0, said
        return Path("data/runs/simclr/0")


@pytest.mark.slow
def test_killed_outright_it_goes_on_with_the_same_bytes_and_two_processes_train_as_one(
    far_digits: Path, repository: Path
) -> None:
    stage = Stage(repository)
    shutil.copytree(stage.finish(stage.start(1, 6)), "one")
    shutil.rmtree("data/runs")
    shutil.rmtree(CACHE)
    killed = stage.start(1, 6)
    for checkpoint in iter(lambda: list(Path(".reprise/work").rglob("*.safetensors")), None):
        if checkpoint or killed.poll() is not None:
            break
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert file_digest(stage.finish(stage.start(1, 6))) == file_digest("one")
    shutil.rmtree("data/runs")
    two = stage.finish(stage.start(2, 6))
    ours, theirs = (load_file(folder / "backbone.safetensors") for folder in (two, Path("one")))
    for name, value in ours.items():
        np.testing.assert_allclose(value, theirs[name], rtol=1e-4, atol=1e-5)
