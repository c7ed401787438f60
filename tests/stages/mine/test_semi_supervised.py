"""The mixture with some labels: what it finds, what it may know, and how its label set is marked and graded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy.optimize import linear_sum_assignment

from reprise.artifacts.embeddings import FILE as EMBEDDINGS
from reprise.artifacts.embeddings import write_embeddings
from reprise.artifacts.labels.label_sets import FILE, read_pseudo_labels
from reprise.artifacts.layout import MANIFEST
from reprise.artifacts.manifest import read_manifest, write_manifest
from reprise.artifacts.shards import Shards
from reprise.config.errors import MiningError, ParameterError
from reprise.config.params import parse, read_yaml
from reprise.config.plug_ins.registry import load_class, names
from reprise.config.tables import MineRow
from reprise.measures.cluster_quality import accuracy_by_class, agreement
from reprise.storage.work_folder import file_digest
from stages.check.parameters import problems
from stages.mine import choose
from stages.mine.label_sets.label_set import hide_others, mine
from stages.mine.miner import Miner
from stages.mine.miners.semi_supervised_mixture import SemiSupervisedMixture, SemiSupervisedParams, far_from, start
from stages.mine.mixture import Mixture, MixtureParams, prepared
from tests.stages.mine.test_miners import blobs
from tests.workspace import make_shards

KNOWN = [f"c{i}" for i in range(5)]


def found(seed: int, clusters: int, n: int = 500) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ten blobs, five of them known by half of their images: clusters, blobs, and which showed their label."""
    features, y = blobs(n, 10, seed=seed)
    truth: list[str | None] = [f"c{i}" for i in y]
    keys = np.array([f"key {i}" for i in range(n)], dtype=object)
    miner = SemiSupervisedMixture(SemiSupervisedParams(clusters=clusters, known=KNOWN), seed)
    given = miner.visible_labels(keys, truth)
    return miner.mine(features, hide_others(truth, given), Path()).clusters, y, given


@pytest.mark.parametrize("clusters", [5, 20])
def test_new_classes_are_found_beside_known_ones_from_below_and_from_above(clusters):
    """Ten blobs, five known, ten seeds: in at least eight the number is within one of ten, and nearly all is right."""
    numbers, right = [], []
    for seed in range(10):
        got, y, given = found(seed, clusters)
        assert set(y[given]) == {0, 1, 2, 3, 4}
        numbers.append(int(got.max()) + 1)
        right.append(agreement(got[~given], y[~given])["accuracy"])
    assert sum(9 <= number <= 11 for number in numbers) >= 8, numbers
    assert np.median(right) > 0.98


@pytest.mark.parametrize("prior_variance", [1e-4, 10.0])
def test_labels_of_one_class_stay_together_and_of_two_apart(prior_variance):
    """Against the features: labels drawn at random over noise, under a prior that splits, and one that merges all."""
    rng = np.random.default_rng(0)
    x = prepared(rng.normal(size=(200, 6)).astype(np.float32), 6, True)
    given = np.where(rng.random(200) < 0.3, rng.integers(0, 4, 200), -1)
    mixture = Mixture(x, given, MixtureParams(prior_variance=prior_variance, rounds=5))
    clusters = start(x.astype(np.float32), given, 12, rng)
    for _ in range(5):
        for step in (mixture.split, mixture.merged):
            clusters = step(clusters, rng)
            of_class = [set(clusters[given == c].tolist()) for c in range(4)]
            assert all(len(own) == 1 for own in of_class)
            assert len(set.union(*of_class)) == 4
            clusters = np.unique(clusters, return_inverse=True)[1]
        clusters, sure = mixture.assigned(clusters)
        assert (sure[given >= 0] == 1).all()
    assert clusters.max() + 1 >= 4


def test_the_start_is_constrained_kmeans():
    """Two known blobs and one that is not: the third centre goes there, and a label against the features is kept."""
    features, y = blobs(90, 3)
    given = np.where((np.arange(90) < 30) & (y < 2), y, -1)
    given[2] = 0  # an image of the third blob that says it is of class 0
    clusters = start(features, given, 3, np.random.default_rng(0))
    want = np.array([0, 1, 2])[y]
    want[2] = 0
    assert (clusters == want).all()
    assert (start(features, given, 1, np.random.default_rng(0)) <= 1).all()  # at least one a known class
    rows = features[[0, 1]]
    assert far_from(rows, rows, 3, np.random.default_rng(0)).shape == (0, features.shape[1])  # no row differs


@pytest.fixture
def features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A workspace of digits whose features follow the classes."""
    monkeypatch.chdir(tmp_path)
    make_shards()
    shards = Shards.open()
    manifest = read_manifest()
    digit = dict(zip(manifest["key"].to_pylist(), manifest["label"].to_pylist(), strict=True))
    rng = np.random.default_rng(0)
    values = np.eye(10)[[int(digit[key]) for key in shards.keys]] * 4 + 0.1 * rng.normal(size=(len(shards.keys), 10))
    place = Path("data/features/pixels/0")
    place.mkdir(parents=True)
    write_embeddings(place / EMBEDDINGS, shards.keys, shards.splits, {"features": values.astype(np.float32)})


def label_set(miner: str, out: str, **options) -> dict:
    kind = load_class("miners", miner, Miner, "")
    mine(MineRow(name=out, miner=miner, on="features/pixels"), kind, kind.Params(**options), 0, Path(out))
    return json.loads((Path(out) / "quality.json").read_text())


def relabelled(change) -> None:
    """Write the manifest again with `change(key, label)` for training images, and no label for val and test."""
    table = read_manifest()
    rows = zip(*(table[name].to_pylist() for name in ("key", "label", "split")), strict=True)
    labels = [change(key, label) if split == "train" else None for key, label, split in rows]
    index = table.schema.get_field_index("label")
    write_manifest(MANIFEST, table.set_column(index, table.schema.field(index), pa.array(labels, pa.string())))


OPTIONS = {"clusters": 8, "known": ["0", "1", "2", "3", "4"], "labelled": 0.5}


def test_hidden_labels_reach_neither_clusters_nor_confidences(features):
    """Labels that are not shown are exchanged, taken away or made up, and val and test lose theirs: the same bytes."""
    table = read_manifest().to_pylist()
    train = sorted((row["key"], row["label"]) for row in table if row["split"] == "train")
    keys = np.array([key for key, _ in train], dtype=object)
    given = SemiSupervisedMixture(SemiSupervisedParams(**OPTIONS), 0).visible_labels(
        keys, [label for _, label in train]
    )
    hidden = set(keys[~given].tolist())
    assert 10 < given.sum() < 40
    first = label_set("semi_supervised_mixture", "a", resamples=3, **OPTIONS)
    # of hidden images, those of new classes become another new class, and those of known ones a class of no image
    relabelled(
        lambda key, label: label if key not in hidden else None if label in "024" else "9" if label > "4" else "x"
    )
    second = label_set("semi_supervised_mixture", "b", resamples=3, **OPTIONS)
    assert file_digest(f"a/{FILE}") == file_digest(f"b/{FILE}")
    assert first["nmi"] != second["nmi"]
    relabelled(lambda key, label: label if key not in hidden else None)
    alone = label_set("semi_supervised_mixture", "c", resamples=3, **OPTIONS)
    assert file_digest(f"a/{FILE}") == file_digest(f"c/{FILE}")
    assert alone["accuracy"] is alone["accuracy_old"] is alone["nmi"] is None  # nothing is left to grade by
    assert alone["given"] == int(given.sum())
    assert label_set("semi_supervised_mixture", "d", resamples=3, **OPTIONS) == alone  # and it repeats itself
    assert file_digest("c") == file_digest("d")


def test_the_label_set_says_that_it_has_seen_labels_and_is_graded_on_the_others(features):
    semi = label_set("semi_supervised_mixture", "semi", **OPTIONS)
    plain = label_set("gaussian_mixture", "plain", clusters=8)
    assert (semi["uses_truth"], plain["uses_truth"]) == (True, False)
    assert "given" not in plain
    clusters = read_pseudo_labels(f"semi/{FILE}")
    keys = np.array(clusters["key"].to_pylist(), dtype=object)
    label = {row["key"]: row["label"] for row in read_manifest().to_pylist()}
    y = np.array([int(label[key]) for key in keys])
    given = SemiSupervisedMixture(SemiSupervisedParams(**OPTIONS), 0).visible_labels(keys, [label[key] for key in keys])
    found, rest = clusters["cluster"].to_numpy(), ~given
    counts = np.zeros((found.max() + 1, 10))
    np.add.at(counts, (found[rest], y[rest]), 1)
    row, column = linear_sum_assignment(counts, maximize=True)
    name = dict(zip(row.tolist(), column.tolist(), strict=True))
    right = np.array([name.get(c) == own for c, own in zip(found.tolist(), y.tolist(), strict=True)])
    assert semi["given"] == given.sum()
    assert clusters["given"].to_pylist() == given.tolist()
    assert semi["accuracy"] == pytest.approx(right[rest].mean(), abs=1e-5)
    assert semi["accuracy_old"] == pytest.approx(right[rest & (y < 5)].mean(), abs=1e-5)
    assert semi["accuracy_new"] == pytest.approx(right[rest & (y >= 5)].mean(), abs=1e-5)
    assert semi["silhouette"] is not None
    for c in range(5):
        assert len(set(found[given & (y == c)].tolist())) == 1
    confidence = clusters["confidence"].to_numpy()
    assert (confidence[given] == 1).all()


def test_old_and_new_classes_share_one_pairing():
    """By hand: class 1 gets cluster 1 although class 2 would have got it alone."""
    labels = np.array([0, 0, 1, 1, 1, 2, 2, -1])
    clusters = np.array([0, 0, 1, 1, 0, 1, -1, 1])
    assert accuracy_by_class(clusters, labels, np.array([0, 1])) == {"accuracy_old": 0.8, "accuracy_new": 0.0}
    assert accuracy_by_class(clusters, labels, np.array([0, 1, 2]))["accuracy_new"] is None
    assert accuracy_by_class(np.full(8, -1), labels, np.array([0])) == {"accuracy_old": None, "accuracy_new": None}


def test_only_one_miner_reads_labels():
    """Everything else is unsupervised: `label_set.mine` gives labels to no other."""
    reading = [n for n in names("miners") if load_class("miners", n, Miner, "").uses_truth]
    assert reading == ["semi_supervised_mixture"]


def test_what_cannot_be_is_refused_with_a_sentence(features, repository):
    def given(**options) -> str:
        with pytest.raises(MiningError) as refused:
            label_set("semi_supervised_mixture", "out", **options)
        return str(refused.value)

    assert "no training image is of this class" in (message := given(known=["3", "dog", "cat"]))
    assert "cat, dog" in message
    assert "0, 1, 2" in message
    assert "the share is so small" in (message := given(labelled=1e-9, known=["3"]))
    assert "mining.*.labelled" in message
    assert "80 images, 81 clusters" in given(clusters=81)
    relabelled(lambda key, label: None)
    assert "gaussian_mixture, which needs none" in given()
    assert "gaussian_mixture, which needs none" in given(known=["3"])
    assert not Path("out").exists()
    for block, word in (
        ({"labelled": 0.0}, "greater than 0"),
        ({"labelled": 1.5}, "less than or equal to 1"),
        ({"known": []}, "at least 1"),
        ({"known": ["a", "a"]}, "names a class twice"),
        ({"known": [3]}, "string"),
    ):
        with pytest.raises(ParameterError, match=word):
            parse(SemiSupervisedParams, block, "mining.semi")
    raw = read_yaml(repository / "params.yaml")
    raw["mines"] = [*raw["mines"], {"name": "semi", "miner": "semi_supervised_mixture", "on": "features/dae"}]
    raw.setdefault("mining", {})["semi"] = {"labelled": 0.2, "known": ["0", "1"]}
    assert problems(raw) == []
    raw["mining"]["semi"] = {"labelled": 0}
    assert any("mining.semi.labelled" in str(problem) for problem in problems(raw))
    Path("params.yaml").write_text(json.dumps(raw | {"mining": raw["mining"] | {"semi": {}}}))
    with pytest.raises(MiningError, match=r"without labels.*gaussian_mixture"):
        choose.main(["--name", "semi", "--out", "c"])
