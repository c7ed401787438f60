"""Backbones on disk: safetensors and JSON, strict, with a sentence for everything foreign."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch

from reprise.artifacts.weights.backbones import (
    CONFIG,
    HEADS,
    WEIGHTS,
    open_weights,
    read_config,
    read_weights,
    write_backbone,
)
from reprise.config.errors import BackboneError
from reprise.networks.assemble import assemble
from reprise.networks.backbone import build_backbone
from reprise.networks.heads import Projector
from reprise.networks.state import arrays_of

CONFIGURATION = {
    "architecture": "resnet18",
    "options": {},
    "stem": "small",
    "input_size": 32,
    "channels": 3,
    "mean": [0.5] * 3,
    "std": [0.2] * 3,
    "num_features": 512,
    "heads": {"projector": [512, 16, 8, 4]},
}


@pytest.fixture
def saved(tmp_path):
    backbone, projector = build_backbone("resnet18", 3, 32, "small"), Projector([512, 16, 8, 4])
    heads = {f"projector.{k}": v for k, v in arrays_of(projector.state_dict()).items()}
    write_backbone(tmp_path, arrays_of(backbone.state_dict()), heads, CONFIGURATION)
    return tmp_path, backbone.eval(), projector.eval()


def test_what_was_saved_answers_the_same_at_every_tap(saved):
    folder, backbone, projector = saved
    network = assemble(read_config(folder), *open_weights(folder), where="here")
    x = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        got, h = network(x), backbone(x)
        first = projector.hidden[0](h)
    torch.testing.assert_close(got["backbone"], h, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(got["projector1"], first, atol=1e-4, rtol=1e-4)
    assert got["projector2"].shape == (3, 8)
    assert not any(p.requires_grad for p in network.parameters())
    assert not network.training


def test_keys_are_timms(saved):
    import timm

    folder, *_ = saved
    theirs = timm.create_model("resnet18", num_classes=0).state_dict()
    ours, _ = read_weights(folder)
    assert ours.keys() == theirs.keys()
    assert {k for k in ours if ours[k].shape != tuple(theirs[k].shape)} == {"conv1.weight"}  # the small stem


@pytest.mark.parametrize("name", [WEIGHTS, HEADS])
@pytest.mark.parametrize("damage", ["truncated", "empty", "pickle", "missing"])
def test_foreign_weights_are_refused_with_a_sentence(saved, name, damage):
    path = saved[0] / name
    data = {"truncated": path.read_bytes()[:-100], "empty": b"", "pickle": pickle.dumps({"conv1.weight": np.zeros(3)})}
    path.unlink() if damage == "missing" else path.write_bytes(data[damage])
    with pytest.raises(BackboneError, match="cannot be read.*dvc repro pretrain"):
        read_weights(saved[0])


def test_weights_of_another_architecture_are_refused(saved):
    (saved[0] / CONFIG).write_text(json.dumps(CONFIGURATION | {"architecture": "resnet20"}))
    with pytest.raises(BackboneError, match="do not fit their configuration"):
        assemble(read_config(saved[0]), *open_weights(saved[0]), where="here")
    (saved[0] / CONFIG).write_text('{"architecture": "resnet18"}')
    with pytest.raises(BackboneError, match="incomplete.*no options, stem"):
        read_config(saved[0])


def test_weights_that_are_not_finite_are_not_written(tmp_path):
    with pytest.raises(BackboneError, match="not finite.*1 of 2"):
        write_backbone(tmp_path, {"w": np.array([1, np.nan], dtype=np.float32)}, {}, {})
