"""Extractors, miners and label sets on real digits."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from sklearn.cluster import KMeans as ReferenceKMeans
from sklearn.decomposition import PCA

from reprise.artifacts.embeddings import FILE as EMBEDDINGS
from reprise.artifacts.labels.label_sets import read_pseudo_labels
from reprise.artifacts.shards import Shards
from reprise.config.errors import MiningError
from reprise.config.plug_ins.registry import load_class
from reprise.config.tables import MineRow
from reprise.runtime.device import Compute
from reprise.runtime.seeds import numpy_rng
from reprise.storage.work_folder import file_digest
from stages.mine.extractor import Extractor
from stages.mine.features import extract
from stages.mine.label_sets.label_set import mine
from stages.mine.miner import Miner
from stages.mine.miners import kmeans
from stages.mine.miners.kmeans import renumbered
from tests.workspace import make_shards

CPU = Compute("cpu", "fp32", 1)


@pytest.fixture
def images() -> np.ndarray:
    from sklearn.datasets import load_digits

    pixels = (load_digits().images[:120] * 15).astype(np.uint8)
    return np.repeat(np.kron(pixels, np.ones((1, 2, 2), np.uint8))[..., None], 3, axis=3)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    make_shards()

    def features(name: str = "pixels", extractor: str = "pixels", seed: int = 0, **options) -> Path:
        from reprise.config.params import ImageParams

        kind = load_class("extractors", extractor, Extractor, "features")
        out = Path("data/features") / name / str(seed)
        extract(kind, kind.Params(**options), extractor, seed, ImageParams(size=16, channels=3), out, restart=False)
        return out

    return features


def label_set(miner: str, out: str, seed: int = 0, on: str = "features/pixels", **options) -> dict:
    kind = load_class("miners", miner, Miner, "mines")
    mine(MineRow(name="set", miner=miner, on=on), kind, kind.Params(**options), seed, Path(out))
    return json.loads((Path(out) / "quality.json").read_text())


def test_pixels_are_the_principal_components(images, tmp_path):
    kind = load_class("extractors", "pixels", Extractor, "")
    got = kind(kind.Params(components=5), 0, CPU).features(images, tmp_path)
    flat = images.reshape(len(images), -1) / 255
    want = PCA(5, svd_solver="full").fit_transform(flat)
    np.testing.assert_allclose(np.abs(got), np.abs(want), atol=1e-4)


def test_features_without_a_seed_are_computed_once(workspace, monkeypatch):
    """The features of the second seed are copies; those of other inputs, and those that depend on the seed, are not."""
    described = []
    pixels, patches = (load_class("extractors", name, Extractor, "") for name in ("pixels", "patches"))

    def counted(real):
        return lambda *arguments: described.append(1) or real(*arguments)

    for kind in (pixels, patches):
        monkeypatch.setattr(kind, "features", counted(kind.features))
    first, second = workspace(seed=0), workspace(seed=1)
    assert len(described) == 1
    assert (first / EMBEDDINGS).read_bytes() == (second / EMBEDDINGS).read_bytes()
    assert [json.loads((place / "config.json").read_text())["seed"] for place in (first, second)] == [0, 1]
    shutil.rmtree(".reprise/features")
    before = file_digest(second)
    assert file_digest(workspace(seed=1)) == before  # computed, and the same to the byte
    assert len(described) == 2
    workspace(seed=2, components=8)
    assert len(described) == 3
    for seed in (0, 1):
        workspace("patches", "patches", seed=seed, patches=8, samples=500)
    assert len(described) == 5


def test_kmeans_is_as_good_as_scikit_learns_and_repeats_itself(tmp_path):
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(c, 1, (50, 4)) for c in range(0, 50, 5)]).astype(np.float32)
    kind = load_class("miners", "kmeans", Miner, "")
    first, again = (kind(kind.Params(clusters=10), 0).mine(features, None, folder(tmp_path / n)) for n in "ab")
    assert (first.clusters == again.clusters).all()
    inertia = float((first.distance**2).sum())
    assert inertia <= 1.01 * ReferenceKMeans(10, n_init=3, random_state=0).fit(features).inertia_
    assert ((first.confidence >= 0) & (first.confidence <= 1)).all()
    for cluster in np.unique(first.clusters):
        members = features[first.clusters == cluster]
        np.testing.assert_allclose(
            first.distance[first.clusters == cluster],
            np.linalg.norm(members - members.mean(0), axis=1),
            rtol=0.05,
            atol=0.05,
        )


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def test_kmeans_is_the_best_of_its_starts_whole_or_in_pieces(tmp_path, monkeypatch):
    """Whether or not the work is cut by checkpoints."""
    features = np.random.default_rng(0).normal(size=(400, 5)).astype(np.float32)
    kind = load_class("miners", "kmeans", Miner, "")
    for seed, clusters, starts in ((0, 20, 3), (1, 20, 1), (2, 400, 2)):
        params = kind.Params(clusters=clusters, iterations=7, starts=starts)
        tried = [
            kmeans.lloyd(
                features,
                kmeans.first_centres(features, clusters, numpy_rng(seed, "kmeans", start)),
                7,
                clusters=clusters,
                merge=kmeans.merged,
            )
            for start in range(starts)
        ]
        best, _ = min(tried, key=lambda found: found[1])
        for work_between_saves in (10**12, 1):
            monkeypatch.setattr(kmeans, "WORK_BETWEEN_SAVES", work_between_saves)
            work = folder(tmp_path / f"{seed}-{work_between_saves}")
            np.testing.assert_array_equal(kind(params, seed).centres(features, work), best)


KILLED = {"clusters": 20, "iterations": 40, "starts": 2}
MINE = f"""
from pathlib import Path
from reprise.config.tables import MineRow
from stages.mine.label_sets.label_set import mine
from stages.mine.miners import kmeans
kmeans.WORK_BETWEEN_SAVES = 1
row = MineRow(name="set", miner="kmeans", on="features/pixels")
mine(row, kmeans.KMeans, kmeans.KMeansParams(**{KILLED}), 0, Path("killed"))
"""


def test_mining_that_is_killed_goes_on_and_ends_the_same(workspace, repository, monkeypatch):
    """SIGKILL at random moments, with a checkpoint after every other iteration."""
    workspace()
    monkeypatch.setattr(kmeans, "WORK_BETWEEN_SAVES", 1)
    label_set("kmeans", "whole", **KILLED)
    rng, reached = random.Random(0), 0
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", MINE], env=os.environ | {"PYTHONPATH": str(repository)}, stderr=subprocess.DEVNULL
        )
        goal = reached + rng.randrange(2, 25)
        while steps_saved() < goal and process.poll() is None:
            time.sleep(0.001)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        reached = steps_saved()
    assert not Path("killed").exists()
    taken, lloyd = [], kmeans.lloyd
    monkeypatch.setattr(kmeans, "lloyd", lambda x, c, n, **rest: (taken.append(n), lloyd(x, c, n, **rest))[1])
    label_set("kmeans", "killed", **KILLED)
    assert sum(taken) == 80 - reached  # it went on, it did not begin again
    assert file_digest("killed") == file_digest("whole")
    assert not list(Path(".reprise/work").rglob("step-*"))


def steps_saved() -> int:
    return max(
        (int(p.stem.removeprefix("step-")) for p in Path(".reprise/work/mine").rglob("step-*.safetensors")), default=0
    )


def test_clusters_are_numbered_by_their_first_row():
    assert renumbered(np.array([7, 2, 7, 9, 2])).tolist() == [0, 1, 0, 2, 1]


def test_label_sets_repeat_to_the_byte_and_depend_on_the_seed(workspace):
    workspace()
    workspace(seed=1)
    quality = label_set("kmeans", "a", clusters=8)
    label_set("kmeans", "b", clusters=8)
    assert file_digest("a") == file_digest("b")
    assert quality["labelled"] == quality["images"] == 80
    assert quality["clusters"] == 8
    assert 0 < quality["nmi"] <= 1
    assert quality["uses_truth"] is False
    table = read_pseudo_labels("a/pseudo_labels.parquet")
    shards = Shards.open()
    assert table["key"].to_pylist() == sorted(shards.keys[shards.rows("train")])
    assert Path("a/montage.png").stat().st_size > 0


def test_clusters_do_not_depend_on_true_labels(tmp_path, monkeypatch):
    """The same images with and without labels give the same pseudo-labels, byte for byte."""
    digests = []
    for name, labelled in (("with", True), ("without", False)):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        make_shards(labelled=labelled)
        kind = load_class("extractors", "pixels", Extractor, "")
        from reprise.config.params import ImageParams

        extract(
            kind,
            kind.Params(),
            "pixels",
            0,
            ImageParams(size=16, channels=3),
            Path("data/features/pixels/0"),
            restart=False,
        )
        quality = label_set("kmeans", "out", clusters=6)
        assert (quality["nmi"] is None) != labelled
        digests.append(file_digest("out/pseudo_labels.parquet"))
    assert digests[0] == digests[1]


def test_impossible_requests_are_refused_with_a_sentence(workspace):
    workspace()
    with pytest.raises(MiningError, match="80 images, 81 clusters.*at most 80"):
        label_set("kmeans", "out", clusters=81)
    kind = load_class("miners", "kmeans", Miner, "")
    with pytest.raises(MiningError, match="same features"):
        kind(kind.Params(clusters=2), 0).mine(np.ones((10, 3), dtype=np.float32), None, folder(Path("work")))
    assert not Path("out").exists()
