"""Embedding: keyed, frozen, repeatable, at every tap."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from stages.contracts.backbones import read_config, read_weights, write_backbone
from stages.contracts.embeddings import read_embeddings, taps_in
from stages.contracts.errors import BackboneError
from stages.contracts.images import decode, square
from stages.contracts.shards import Shards
from stages.contracts.work_folder import file_digest
from stages.embed.embedding import embed
from stages.embed.params import EmbedParams
from stages.networks.assemble import assemble
from stages.networks.backbones import build_backbone
from stages.networks.heads import Projector
from stages.networks.state import arrays_of
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


def test_every_image_at_every_tap_joined_by_key(run):
    before = file_digest(run)
    embed("simclr", 0, EmbedParams(batch_size=7), Path("out"))
    assert file_digest(run) == before  # the backbone is frozen
    path = Path("out/embeddings.parquet")
    assert taps_in(path) == ["backbone", "projector1", "projector2"]
    keys, splits, values = read_embeddings(path)
    shards = Shards.open()
    assert dict(zip(keys, splits, strict=True)) == dict(zip(shards.keys, shards.splits, strict=True))
    network = assemble(read_config(run), *read_weights(run), where="run")
    for row in (0, 31, 59):
        pixels = square(decode(shards.read(row), "x", 3), 16).astype(np.float32) / 255
        x = torch.from_numpy((pixels - np.float32(0.3)) / np.float32(0.4)).permute(2, 0, 1)[None]
        want = network(x)["backbone"][0].numpy()
        np.testing.assert_allclose(values[list(keys).index(shards.keys[row])], want, atol=1e-4)


def test_the_same_bytes_again(run):
    for out in ("a", "b"):
        embed("simclr", 0, EmbedParams(), Path(out))
    assert file_digest("a") == file_digest("b")


def test_a_missing_run_is_named(run):
    with pytest.raises(BackboneError, match="data/runs/absent/0"):
        embed("absent", 0, EmbedParams(), Path("out"))
    assert not Path("out").exists()
