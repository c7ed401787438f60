"""The live log is a display: it resumes, its failures stop nothing, and what it shows of an epoch changes nothing."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import torch

from reprise.networks.backbone import build_backbone
from reprise.runtime.device import Compute
from stages.pretrain import run as run_module
from stages.pretrain.monitoring.live import LiveLog
from stages.pretrain.monitoring.observing import own_view_found
from tests.stages.pretrain.test_run import run

FP32 = Compute("cpu", "fp32", 1)


@pytest.fixture
def repository_without_commits(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "-q"], check=True)
    return tmp_path


def test_a_failure_is_said_once_and_stops_nothing(repository_without_commits, capsys):
    subprocess.run(["dvc", "init", "-q"], check=True)
    log = LiveLog("simclr/0")
    for epoch in (1, 2):
        log(epoch, {"epoch": epoch, "loss": 0.5})
    assert capsys.readouterr().err.count("no live log") == 1


def test_a_resumed_run_goes_on_in_its_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = LiveLog("simclr/0")
    for epoch in (1, 2):
        first(epoch, {"epoch": epoch, "loss": 1.0 / epoch})
    LiveLog("simclr/0")(3, {"epoch": 3, "loss": 0.25})
    lines = Path(".reprise/live/simclr/0/plots/metrics/loss.tsv").read_text().splitlines()
    assert [line.split("\t") for line in lines[1:]] == [["0", "1.0"], ["1", "0.5"], ["2", "0.25"]]


def test_own_views_are_found_where_views_of_an_image_are_alike():
    torch.manual_seed(0)
    backbone = torch.nn.Flatten()
    first = torch.randn(40, 3, 8, 8)
    close = first + 0.1 * torch.randn_like(first)
    assert own_view_found(backbone, [first, close], FP32) == {"own_view": 1.0}
    assert own_view_found(backbone, [first, close.roll(1, 0)], FP32) == {"own_view": 0.0}
    assert own_view_found(backbone, [torch.ones_like(first)] * 2, FP32)["own_view"] == pytest.approx(1 / 40)
    some = close.clone()
    some[10:] = some[10:].roll(1, 0)
    assert own_view_found(backbone, [first, some], FP32)["own_view"] == pytest.approx(10 / 40)


def test_looking_at_the_views_changes_nothing():
    torch.manual_seed(0)
    backbone = build_backbone("resnet_tiny", 3, 16).train()
    held = next(m for m in backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)).eval()  # as by a method
    modes = [m.training for m in backbone.modules()]
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    views = [torch.randn(8, 3, 16, 16)]
    drawn = torch.get_rng_state()
    assert 0 <= own_view_found(backbone, views * 2, FP32)["own_view"] <= 1
    assert torch.equal(torch.get_rng_state(), drawn)
    assert [m.training for m in backbone.modules()] == modes
    assert not held.training
    assert all(torch.equal(before[k], v) for k, v in backbone.state_dict().items())
    assert own_view_found(backbone, views, FP32) == {}
    assert own_view_found(backbone, [*views, torch.randn(8, 3, 8, 8)], FP32) == {}


def test_the_share_is_shown_and_kept_out_of_the_outputs(digits, monkeypatch):
    rows: list[dict[str, float]] = []
    monkeypatch.setattr(run_module, "LiveLog", lambda name, off: lambda epoch, row: rows.append(row))
    out = run("simclr", "out")
    assert all(0 <= row["own_view"] <= 1 for row in rows)
    assert len(rows) == 3
    assert "own_view" not in (out / "history.csv").read_text()
