"""Embedding: keyed, frozen, repeatable, at every tap."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from reprise.artifacts.embeddings import read_embeddings, taps_in
from reprise.artifacts.shards import Shards
from reprise.artifacts.weights.backbones import open_weights, read_config
from reprise.config.errors import BackboneError
from reprise.media.image.decode import decode
from reprise.media.image.transform import resize_to_square
from reprise.networks.assemble import assemble
from reprise.storage.work_folder import file_digest
from stages.embed import embedding
from stages.embed.embedding import embed
from stages.embed.params import EmbedParams

FEATURES = embedding.features  # before any test replaces it


def test_every_image_at_every_tap_joined_by_key(run):
    before = file_digest(run)
    embed("simclr", 0, EmbedParams(batch_size=7), Path("out"))
    assert file_digest(run) == before  # the backbone is frozen
    path = Path("out/embeddings.parquet")
    assert taps_in(path) == ["backbone", "projector1", "projector2"]
    keys, splits, values = read_embeddings(path)
    shards = Shards.open()
    assert dict(zip(keys, splits, strict=True)) == dict(zip(shards.keys, shards.splits, strict=True))
    network = assemble(read_config(run), *open_weights(run), where="run")
    for row in (0, 31, 59):
        pixels = resize_to_square(decode(shards.read(row), "x", 3), 16).astype(np.float32) / 255
        x = torch.from_numpy((pixels - np.float32(0.3)) / np.float32(0.4)).permute(2, 0, 1)[None]
        want = network(x)["backbone"][0].numpy()
        np.testing.assert_allclose(values[list(keys).index(shards.keys[row])], want, atol=1e-4)


def test_the_same_bytes_again(run):
    for out in ("a", "b"):
        embed("simclr", 0, EmbedParams(), Path(out))
    assert file_digest("a") == file_digest("b")


def test_bf16_keeps_the_features_to_two_digits(run):
    found = []
    for precision in ("fp32", "bf16"):
        embed("simclr", 0, EmbedParams(precision=precision, augmented=4), Path(precision))
        found.append(
            [read_embeddings(Path(precision) / name)[2] for name in ("embeddings.parquet", "augmented.parquet")]
        )
    for exact, short in zip(*found, strict=True):
        assert short.dtype == np.float32
        assert not np.array_equal(exact, short)
        np.testing.assert_allclose(short, exact, atol=0.02 * np.abs(exact).max())


def test_a_missing_run_is_named(run):
    with pytest.raises(BackboneError, match="data/runs/absent/0"):
        embed("absent", 0, EmbedParams(), Path("out"))
    assert not Path("out").exists()


@pytest.mark.parametrize("killed_at", [1, 4, 6])
def test_a_killed_embedding_goes_on_from_the_last_finished_chunk(run, monkeypatch, killed_at):
    """Chunks of 16 images in batches of 8: an interruption in each of the four, and the same bytes."""
    params = EmbedParams(batch_size=8, augmented=0)
    embed("simclr", 0, params, Path("whole"))
    monkeypatch.setattr(embedding, "CHUNK", 17)  # rounded down to whole batches
    calls = count_batches(monkeypatch, interrupt_at=killed_at)
    with pytest.raises(KeyboardInterrupt):
        embed("simclr", 0, params, Path("resumed"))
    assert not Path("resumed").exists()
    done = (killed_at - 1) // 2
    assert len(list(Path(".reprise/work/embed/simclr/0").rglob("step-*"))) == done
    calls.clear()
    count_batches(monkeypatch, calls=calls)
    embed("simclr", 0, params, Path("resumed"))
    assert len(calls) == 8 - 2 * done
    assert file_digest("resumed") == file_digest("whole")
    assert not Path(".reprise/work/embed/simclr/0").exists()


def test_other_weights_or_restart_discard_finished_chunks(run, monkeypatch, capsys):
    monkeypatch.setattr(embedding, "CHUNK", 16)
    params = EmbedParams(batch_size=8, augmented=0)
    for weights_changed in (False, True):
        count_batches(monkeypatch, interrupt_at=5)
        with pytest.raises(KeyboardInterrupt):
            embed("simclr", 0, params, Path("out"))
        if weights_changed:
            config = json.loads((run / "config.json").read_text()) | {"mean": [0.31] * 3}
            (run / "config.json").write_text(json.dumps(config))
        calls = count_batches(monkeypatch)
        embed("simclr", 0, params, Path("out"), restart=not weights_changed)
        assert len(calls) == 8
    assert "leaving unfinished work on other inputs" in capsys.readouterr().err


def test_few_images_leave_nothing_in_the_work_folder(run, monkeypatch):
    seen = []
    monkeypatch.setattr(embedding, "write_embeddings", lambda *a: seen.extend(Path(".reprise/work").rglob("step-*")))
    embed("simclr", 0, EmbedParams(), Path("out"))
    assert seen == []


def count_batches(monkeypatch, interrupt_at: int = 0, calls: list | None = None) -> list:
    """Count batches and interrupt the `interrupt_at`-th."""
    calls = [] if calls is None else calls

    def counted(*arguments):
        calls.append(1)
        if len(calls) == interrupt_at:
            raise KeyboardInterrupt
        return FEATURES(*arguments)

    monkeypatch.setattr(embedding, "features", counted)
    return calls
