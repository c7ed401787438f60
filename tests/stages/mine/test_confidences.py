"""Confidences of label sets: two changed copies against a loop, AUROC against scikit-learn, the whole stage."""

from __future__ import annotations

import json
import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score

from reprise.artifacts.embeddings import FILE as EMBEDDINGS
from reprise.artifacts.embeddings import feature_taps_in, read_embeddings, taps_in, write_embeddings
from reprise.artifacts.labels.label_sets import FILE, read_pseudo_labels
from reprise.artifacts.manifest import read_manifest
from reprise.artifacts.shards import Shards
from reprise.config.errors import MiningError
from reprise.config.plug_ins.registry import load_class
from reprise.config.tables import MineRow
from reprise.measures.cluster_quality import auroc, right_by_majority
from stages.mine.label_sets import confidences
from stages.mine.label_sets.confidences import agreement_of_passes
from stages.mine.label_sets.label_set import mine
from stages.mine.miner import ClusterParams, Miner
from tests.workspace import make_shards


@pytest.mark.parametrize("levels", [4, 1000])
def test_auroc_is_scikit_learns(levels: int) -> None:
    """With many ties, which count half, and with hardly any."""
    rng = np.random.default_rng(levels)
    right = rng.random(300) < 0.3
    scores = (rng.integers(0, levels, 300) + right).astype(np.float32)
    assert auroc(scores, right) == pytest.approx(roc_auc_score(right, scores), abs=1e-12)
    assert auroc(-scores, right) == pytest.approx(1 - roc_auc_score(right, scores), abs=1e-12)
    assert auroc(np.zeros(300), right) == 0.5
    assert auroc(scores, np.ones(300, bool)) is None


def test_right_is_the_commonest_class_of_a_cluster() -> None:
    clusters = np.array([0, 0, 0, 1, 1, 2, -1, 1])
    labels = np.array([5, 5, 7, 7, 9, 3, 5, -1])
    assert right_by_majority(clusters, labels).tolist() == [True, True, False, True, False, True, False, False]
    assert not right_by_majority(np.full(3, -1), np.zeros(3, int)).any()


def test_the_agreement_of_two_passes_equals_a_loop() -> None:
    rng = np.random.default_rng(0)
    features, first, second = (rng.normal(size=(12, 3)).astype(np.float32) for _ in range(3))
    clusters = np.array([0, 1, 2] * 3 + [-1, 0, 1])
    centres = [np.mean([features[i] for i in range(12) if clusters[i] == k], axis=0) for k in range(3)]
    own = [sum((features[i] - centres[clusters[i]]) ** 2) for i in range(12) if clusters[i] >= 0]
    scale = float(np.mean(own))

    def share(x: np.ndarray, k: int) -> float:
        each = [math.exp(-float(((x - c) ** 2).sum()) / scale) for c in centres]
        return each[k] / sum(each)

    want = [1 - sum(abs(share(first[i], k) - share(second[i], k)) for k in range(3)) / 2 for i in range(12)]
    np.testing.assert_allclose(agreement_of_passes(features, clusters, first, second), want, atol=1e-6)
    assert (agreement_of_passes(features, clusters, first, first) == 1.0).all()


def test_many_clusters_are_looked_at_in_blocks_of_images(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    features, first, second = (rng.normal(size=(2003, 4)).astype(np.float32) for _ in range(3))
    clusters = np.arange(2003) % 1000
    tracemalloc.start()
    try:
        monkeypatch.setattr(confidences, "_NUMBERS", 2**16)
        blocks = agreement_of_passes(features, clusters, first, second)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20  # one whole table has 16 MB
    finally:
        tracemalloc.stop()
    monkeypatch.setattr(confidences, "_NUMBERS", 2**30)
    np.testing.assert_allclose(blocks, agreement_of_passes(features, clusters, first, second), atol=1e-6)


@pytest.fixture
def embedding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An embedding in which a third of the images lies between classes, and these move when they are changed."""
    monkeypatch.chdir(tmp_path)
    make_shards()
    shards = Shards.open()
    table = read_manifest()
    label = dict(zip(table["key"].to_pylist(), table["label"].to_pylist(), strict=True))
    classes = sorted(set(label.values()))
    rng = np.random.default_rng(0)
    place = np.eye(len(classes))[[classes.index(label[key]) for key in shards.keys]]
    astray = rng.random(len(place)) < 0.35
    place[astray] = 0.5 * np.eye(len(classes))[rng.integers(0, len(classes), astray.sum())] + 0.5 * place[astray]

    def passed(noise: float) -> np.ndarray:
        moved = np.where(astray[:, None], 4 * noise, noise) * rng.normal(size=place.shape)
        return (4 * place + moved).astype(np.float32)

    path = Path("data/embed/simclr/0")
    path.mkdir(parents=True)
    taps = {"backbone": (4 * place).astype(np.float32), "pass1": passed(0.2), "pass2": passed(0.2)}
    write_embeddings(path / EMBEDDINGS, shards.keys, shards.splits, taps)
    return path / EMBEDDINGS


def label_set(out: str, on: str = "embed/simclr", **options) -> dict:
    kind = load_class("miners", "kmeans", Miner, "")
    params = kind.Params(clusters=10, **options)
    mine(MineRow(name="set", miner="kmeans", on=on), kind, params, 0, Path(out), restart=True)
    return json.loads((Path(out) / "quality.json").read_text())


def test_every_confidence_has_its_area_and_one_is_chosen(embedding: Path) -> None:
    plain = label_set("plain")
    assert "auroc" not in plain  # what was written before stays as it was
    found = label_set("both", confidence="two_views", resamples=3)
    assert set(found["auroc"]) == {"own", "resamples", "two_views"}
    assert found["auroc"]["two_views"] > 0.6
    sure = read_pseudo_labels(f"both/{FILE}")
    own = read_pseudo_labels(f"plain/{FILE}")["confidence"].to_numpy()
    keys, _, features = read_embeddings(embedding, "backbone", "train")
    first, second = (read_embeddings(embedding, name, "train")[2] for name in ("pass1", "pass2"))
    want = agreement_of_passes(features, sure["cluster"].to_numpy(), first, second)
    np.testing.assert_allclose(sure["confidence"].to_numpy(), want, atol=1e-6)
    assert sure["key"].to_pylist() == keys.tolist()
    chosen = label_set("own", confidence="own", resamples=3)
    np.testing.assert_allclose(read_pseudo_labels(f"own/{FILE}")["confidence"].to_numpy(), own)
    assert set(chosen["auroc"]) == {"own", "resamples"}
    table = read_manifest()
    label = dict(zip(table["key"].to_pylist(), table["label"].to_pylist(), strict=True))
    classes = np.unique([label[key] for key in keys], return_inverse=True)[1]
    right = right_by_majority(sure["cluster"].to_numpy(), classes)
    assert found["auroc"]["own"] == pytest.approx(roc_auc_score(right, own), abs=1e-5)


def test_features_without_changed_copies_are_refused(embedding: Path) -> None:
    keys, splits, values = read_embeddings(embedding, "backbone")
    write_embeddings(embedding, keys, splits, {"backbone": values})
    with pytest.raises(MiningError, match=r"two changed copies.*no tap 'pass1'.*embed.two_passes to true"):
        label_set("out", confidence="two_views")
    with pytest.raises(ValidationError, match="needs resamples of at least 3"):
        ClusterParams(confidence="resamples")


def test_probes_do_not_read_the_passes(embedding: Path) -> None:
    assert taps_in(embedding) == ["backbone", "pass1", "pass2"]
    assert feature_taps_in(embedding) == ["backbone"]
