"""What is learned does not depend on the path that makes the views."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from reprise.artifacts.manifest import read_manifest
from reprise.artifacts.shards import Shards
from reprise.artifacts.weights.backbones import open_weights, read_config
from reprise.networks.assemble import assemble
from reprise.reading.decoded import open_decoded
from stages.pretrain.views import make
from tests.stages.pretrain.conftest import TINY, write_label_set
from tests.stages.pretrain.test_run import run
from tests.workspace import make_shards

BUDGET = TINY.model_copy(update={"epochs": 20, "batch_size": 128, "warmup_epochs": 2, "checkpoint_steps": 200})


def knn_accuracy(folder: Path) -> float:
    """Of 449 test digits, by the 20 nearest of 899 for training, cosine."""
    shards, config = Shards.open(), read_config(folder)
    network = assemble(config, *open_weights(folder), str(folder))
    labels = {row["key"]: row["label"] for row in read_manifest().to_pylist()}
    mean, std = (torch.tensor(config[name]).view(1, -1, 1, 1) for name in ("mean", "std"))
    known = {}
    for split in ("train", "test"):
        rows = shards.rows(split)
        pixels = torch.from_numpy(np.array(open_decoded(shards, rows, 3).resized(16))).permute(0, 3, 1, 2) / 255
        with torch.no_grad():
            features = network((pixels - mean) / std)["backbone"].numpy()
        known[split] = features, [labels[key] for key in shards.keys[rows]]
    vote = KNeighborsClassifier(20, metric="cosine", weights="distance").fit(*known["train"])
    return float(vote.score(*known["test"]))


@pytest.mark.slow
def test_both_paths_learn_as_well(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_shards(1797)
    shards = Shards.open()
    keys = shards.keys[shards.rows("train")]
    write_label_set("none", keys, np.full(len(keys), -1))
    untrained = knn_accuracy(run("random", "random", train=BUDGET))
    batched = knn_accuracy(run("simclr", "batched", train=BUDGET))
    monkeypatch.setattr(make, "BATCHED_SIDE", 0)
    per_image = knn_accuracy(run("simclr", "per_image", train=BUDGET))
    assert min(batched, per_image) > untrained
    assert abs(batched - per_image) < 0.04  # three standard errors of a difference between 449 images at 96 %
