"""The miner `spectral_membership`: the table of codes, its eigenvectors, and a run of `mlc` in the graph's formats."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from reprise.artifacts.embeddings import read_embeddings, taps_in
from reprise.artifacts.weights.backbones import open_weights, read_config
from reprise.config.errors import MiningError
from reprise.config.params import ImageParams
from reprise.config.plug_ins.registry import load_class
from reprise.config.tables import MineRow, RunRow
from reprise.measures.cluster_quality import contingency, hungarian_accuracy
from reprise.networks.assemble import assemble
from stages.embed.embedding import embed
from stages.embed.params import EmbedParams
from stages.mine.given import write_given
from stages.mine.label_sets.label_set import mine
from stages.mine.miner import Miner
from stages.pretrain.method import Method
from stages.pretrain.run import pretrain
from tests.stages.mine.test_assigned import TINY
from tests.workspace import make_shards


def miner(seed: int = 0, **options) -> Miner:
    kind = load_class("miners", "spectral_membership", Miner, "")
    return kind(kind.Params(**options), seed)


def groups(count: int, each: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors near axes, half of them near the opposite end: the table looks at the size of the cosine."""
    rng = np.random.default_rng(0)
    of = np.arange(count * each) % count
    signs = np.where(rng.random(len(of)) < 0.5, -1, 1)[:, None]
    codes = signs * np.eye(8)[of] + spread * rng.normal(size=(len(of), 8))
    return (codes / np.linalg.norm(codes, axis=1, keepdims=True)).astype(np.float32), of


def test_the_table_is_that_of_loops() -> None:
    codes, _ = groups(3, 5, 0.3)
    got = miner(clusters=3, half_steps=5).table(codes)
    want = np.exp(np.abs(codes.astype(float) @ codes.T.astype(float)) / 0.175)
    for step in range(5):
        want /= want.sum(axis=1 - step % 2, keepdims=True)
    np.testing.assert_allclose(got, (want + want.T) / 2, atol=1e-5)
    settled = miner(clusters=3).table(codes)
    np.testing.assert_allclose(settled.sum(axis=0), 1, atol=1e-4)
    np.testing.assert_allclose(settled, settled.T, atol=0)


@pytest.mark.parametrize("each", [12, 40])  # solved by numpy and by ARPACK
def test_groups_are_found_whatever_the_sign_of_their_codes(each: int, tmp_path: Path) -> None:
    codes, of = groups(4, each, 0.1)
    first, again = (miner(clusters=4).mine(codes, None, tmp_path) for _ in range(2))
    assert hungarian_accuracy(contingency(first.clusters, of)) == 1.0
    np.testing.assert_array_equal(first.clusters, again.clusters)
    assert first.confidence is not None
    assert ((first.confidence >= 0) & (first.confidence <= 1)).all()
    # k-means on the codes sees eight groups, the two ends of each axis apart.
    kind = load_class("miners", "kmeans", Miner, "")
    plain = kind(kind.Params(clusters=4), 0).mine(codes, None, tmp_path).clusters
    assert hungarian_accuracy(contingency(plain, of)) < 0.9


def test_too_many_images_are_refused_before_anything_is_computed() -> None:
    kind = load_class("miners", "spectral_membership", Miner, "")
    with pytest.raises(MiningError, match="table of all pairs of images is too large"):
        kind.refuse_images(kind.Params(clusters=4), 20_001, "mining.x")
    with pytest.raises(MiningError, match="fewer images than clusters"):
        kind.refuse_images(kind.Params(clusters=4), 3, "mining.x")
    with pytest.raises(MiningError, match="takes hours.*8000 images in 2000 clusters.*fewer than 2000 clusters"):
        kind.refuse_images(kind.Params(clusters=2000), 8000, "mining.x")
    kind.refuse_images(kind.Params(clusters=1999), 8000, "mining.x")
    kind.refuse_images(kind.Params(clusters=2000), 4000, "mining.x")


def test_the_codes_of_a_run_become_a_label_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_shards()
    write_given([0])
    kind, folder = load_class("methods", "mlc", Method, ""), Path("data/runs/learned/0")
    row = RunRow(name="learned", method="mlc", labels="none")
    params = kind.Params(hidden=16, output=8)
    pretrain(row, 0, ImageParams(size=16, channels=3), TINY, params, folder, restart=False)
    assert read_config(folder)["heads"] == {"projector": [64, 16, 8], "codes": [64, 16, 8]}
    embed("learned", 0, EmbedParams(augmented=0), Path("data/embed/learned/0"))
    path = Path("data/embed/learned/0/embeddings.parquet")
    assert taps_in(path) == ["backbone", "projector1", "codes"]
    codes, features = (read_embeddings(path, tap)[2] for tap in ("codes", "backbone"))
    np.testing.assert_allclose(np.linalg.norm(codes, axis=1), 1, atol=1e-5)
    network = assemble(read_config(folder), *open_weights(folder), where="x")
    assert network.codes is not None
    want = torch.nn.functional.normalize(network.codes(torch.from_numpy(features.copy())), dim=1)
    np.testing.assert_allclose(codes, want.numpy(), atol=1e-4)
    miner_class = load_class("miners", "spectral_membership", Miner, "")
    chosen = MineRow(name="by_codes", miner="spectral_membership", on="embed/learned")
    mine(chosen, miner_class, miner_class.Params(clusters=6), 0, Path("out"))
    figures = json.loads(Path("out/quality.json").read_text(encoding="utf-8"))
    assert (figures["clusters"], figures["labelled"]) == (6, 80)
