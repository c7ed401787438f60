"""An untrained run on sixty digits, in a folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from reprise.artifacts.weights.backbones import write_backbone
from reprise.networks.backbone import build_backbone
from reprise.networks.heads import Projector
from reprise.networks.state import arrays_of
from tests.workspace import make_shards


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    make_shards(60)
    torch.manual_seed(0)
    backbone, projector = build_backbone("resnet_tiny", 3, 16), Projector([64, 8, 8, 4])
    config = {
        "architecture": "resnet_tiny", "options": {}, "stem": "auto", "input_size": 16, "channels": 3,
        "mean": [0.3] * 3, "std": [0.4] * 3,
        "num_features": 64, "heads": {"projector": [64, 8, 8, 4]},
    }  # fmt: skip
    folder = Path("data/runs/simclr/0")
    folder.mkdir(parents=True)
    heads = {f"projector.{k}": v for k, v in arrays_of(projector.state_dict()).items()}
    write_backbone(folder, arrays_of(backbone.state_dict()), heads, config)
    return folder
