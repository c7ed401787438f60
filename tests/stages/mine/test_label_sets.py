"""What a label set holds beside its clusters: pairs, resampling, rounds, figures, and the choice of k."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score

from reprise.artifacts.embeddings import FILE as EMBEDDINGS
from reprise.artifacts.embeddings import read_embeddings, write_embeddings
from reprise.artifacts.labels.label_sets import FILE, confidences_for, read_pseudo_labels
from reprise.artifacts.labels.pairs import SCHEMA, read_pairs, rows_of, write_pairs
from reprise.artifacts.shards import Shards
from reprise.config.errors import MiningError, PseudoLabelError
from reprise.config.params import parse, read_yaml
from reprise.config.plug_ins.registry import load_class
from reprise.config.tables import MineRow, tables
from reprise.measures.cluster_quality import calinski_harabasz, davies_bouldin, matched_clusters, share_moved
from reprise.storage.work_folder import file_digest
from stages.mine import choose
from stages.mine.given import write_given
from stages.mine.label_sets.label_set import mine
from stages.mine.label_sets.pair_figures import pair_figures
from stages.mine.label_sets.rounds import label_set_before, round_of
from stages.mine.miner import ClusterParams, Miner, Pairs
from stages.mine.streaming import stream_features
from tests.workspace import make_shards


@pytest.fixture
def features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """A workspace of digits whose features, in data/features/pixels/0, are eight noisy groups."""
    monkeypatch.chdir(tmp_path)
    make_shards()
    shards = Shards.open()
    rng = np.random.default_rng(0)
    values = np.eye(8)[np.arange(len(shards.keys)) % 8] * 4 + rng.normal(size=(len(shards.keys), 8))
    place = Path("data/features/pixels/0")
    place.mkdir(parents=True)
    write_embeddings(place / EMBEDDINGS, shards.keys, shards.splits, {"features": values.astype(np.float32)})
    return values


def label_set(miner: str, out: str, number: int = 0, before: str | None = None, **options) -> dict:
    kind = load_class("miners", miner, Miner, "")
    row = MineRow(name=Path(out).parent.name or out, miner=miner, on="features/pixels")
    mine(row, kind, kind.Params(**options), 0, Path(out), round_number=number, before=before)
    return json.loads((Path(out) / "quality.json").read_text())


def test_images_that_are_not_sure_lose_their_label_and_keep_their_confidence(features):
    whole = label_set("kmeans", "whole", clusters=8)
    part = label_set("kmeans", "part", clusters=8, min_confidence=0.4)
    before, after = (read_pseudo_labels(f"{name}/{FILE}") for name in ("whole", "part"))
    confidence = before["confidence"].to_numpy()
    assert 0 < part["labelled"] < whole["labelled"] == 80
    assert (np.array(after["cluster"].is_null()) == (confidence < 0.4)).all()
    assert (after["confidence"].to_numpy() == confidence).all()
    assert part["confidence_mean"] > whole["confidence_mean"]
    found = confidences_for(after, np.array([*after["key"].to_pylist(), "unknown"], dtype=object))
    assert (found[:-1] == np.where(confidence < 0.4, 0, confidence)).all()
    assert found[-1] == 0
    write_given([0])
    labels = read_pseudo_labels(f"data/mine/truth/0/{FILE}")  # labels without confidences are not sure
    assert confidences_for(labels, np.array(labels["key"].to_pylist(), dtype=object)).tolist() == [0] * 80
    assert Path("part/least_certain.png").stat().st_size > 0


def test_resampling_gives_agreement_and_stability(features):
    quality = label_set("kmeans", "steady", clusters=8, resamples=5)
    assert 0.5 < quality["stability"] <= 1
    confidence = read_pseudo_labels(f"steady/{FILE}")["confidence"].to_numpy()
    assert set(np.round(confidence * 4, 5).tolist()) <= {0, 1, 2, 3, 4}  # each image is mined again four times
    noisy = label_set("kmeans", "noisy", clusters=25, resamples=3)
    assert noisy["stability"] < quality["stability"]
    with pytest.raises(MiningError, match=r"when a resample leaves out images.*53 images, 60 clusters.*resamples to 0"):
        label_set("kmeans", "out", clusters=60, resamples=3)
    with pytest.raises(ValueError, match="at least 3"):
        ClusterParams(resamples=2)


def test_a_miner_that_streams_finds_what_it_finds_in_memory(features):
    kind = load_class("miners", "minibatch_kmeans", Miner, "")
    label_set("minibatch_kmeans", "streamed", clusters=8, rows=16)
    keys, _, values = read_embeddings(f"data/features/pixels/0/{EMBEDDINGS}", split="train")
    Path("plain").mkdir()
    want = kind(kind.Params(clusters=8, rows=16), 0).mine(values, None, Path("plain"))
    assert read_pseudo_labels(f"streamed/{FILE}")["cluster"].to_pylist() == want.clusters.tolist()
    for _ in range(2):  # the second time from the copy that is there
        again, mapped = stream_features(Path(f"data/features/pixels/0/{EMBEDDINGS}"), "train", Path("plain"))
        assert (again == keys).all()
        assert isinstance(mapped, np.memmap)
        assert (mapped == values).all()


def test_the_precision_of_pairs_is_told_by_hops_and_by_kind(features):
    """By hand: of the pairs whose images both have a label, those of one class."""
    rows = np.array([[0, 1], [0, 2], [1, 2], [2, 3], [3, 4], [0, 5]])
    kind = np.array(["inter", "inter", "closed", "closed", "closed", "intra"], dtype=object)
    pairs = Pairs(rows, np.ones(6, np.float32), kind, np.array([1, 1, 2, 2, 3, 1]))
    truth = ["a", "a", "b", "b", "b", None]
    assert pair_figures(pairs, truth, 4) == {
        "pairs_judged": 5,
        "precision_by_hops": {"1": 0.5, "2": 0.5, "3": 1.0},
        "precision_by_kind": {"closed": 0.6667, "inter": 0.5, "intra": None},
    }
    found = label_set("mutual_neighbours", "near", neighbours=3)
    assert found["pairs_judged"] == found["pairs"]
    assert list(found["precision_by_hops"]) == ["1"]
    assert "pairs_judged" not in label_set("kmeans", "plain", clusters=4)


def test_pairs_are_written_beside_empty_or_full_clusters(features):
    quality = label_set("mutual_neighbours", "near", neighbours=3)
    table = read_pairs("near/pairs.parquet")
    assert quality["pairs"] == table.num_rows > 0
    keys = np.array(read_pseudo_labels(f"near/{FILE}")["key"].to_pylist(), dtype=object)
    rows, weight = rows_of(table, keys, "near")
    assert (rows[:, 0] != rows[:, 1]).all()
    assert ((weight >= 0) & (weight <= 1)).all()
    assert label_set("kmeans", "plain", clusters=4)["pairs"] is None
    assert not Path("plain/pairs.parquet").exists()
    with pytest.raises(PseudoLabelError, match="other images"):
        rows_of(table, keys[:3], "near")


@pytest.mark.parametrize(
    ("first", "second", "weight", "message"),
    [
        (["a"], ["a"], [1.0], "differ"),
        (["a", "b"], ["b", "a"], [1.0, 1.0], "once"),
        (["a"], ["b"], [1.5], "between 0 and 1"),
        (["a"], ["b"], [float("nan")], "between 0 and 1"),
    ],
)
def test_pairs_that_are_none_are_refused(tmp_path, first, second, weight, message):
    n = len(first)
    table = pa.table(dict(zip(SCHEMA.names, [first, second, weight, ["mutual"] * n, [1] * n], strict=True)))
    with pytest.raises(PseudoLabelError, match=message):
        write_pairs(tmp_path / "pairs.parquet", table.cast(SCHEMA))


def test_rounds_are_counted_along_the_graph(repository):
    raw = read_yaml(repository / "params.yaml")
    raw["mines"] = [
        *raw["mines"],
        {"name": "second", "miner": "kmeans", "on": "embed/gsimclr"},
        {"name": "third", "miner": "kmeans", "on": "embed/later"},
        {"name": "unguided", "miner": "kmeans", "on": "embed/simclr"},
    ]
    raw["runs"] = [*raw["runs"], {"name": "later", "method": "gsimclr", "labels": "second"}]
    graph = tables(raw)
    rows = {row.name: row for row in graph.mines}
    before = {"dae_kmeans": (0, None), "second": (1, "dae_kmeans"), "third": (2, "second"), "unguided": (1, "none")}
    assert {name: (round_of(graph, row), label_set_before(graph, row)) for name, row in rows.items()} == before
    assert parse(MineRow, {"name": "x", "miner": "kmeans", "on": "embed/gsimclr"}, "").on == "embed/gsimclr"


def test_churn_says_how_much_a_round_changed(features):
    label_set("kmeans", "data/mine/one/0", clusters=8)
    same = label_set("kmeans", "data/mine/two/0", number=1, before="one", clusters=8)
    assert same["churn"] == {"before": "one", "images": 80, "ari": 1.0, "share_moved": 0.0}
    other = label_set("kmeans", "data/mine/three/0", number=1, before="one", clusters=4)
    assert other["churn"]["share_moved"] > 0.3
    assert set(read_pseudo_labels(f"data/mine/two/0/{FILE}")["round"].to_pylist()) == {1}
    write_given([0])
    assert label_set("kmeans", "data/mine/four/0", number=1, before="none", clusters=4)["churn"] is None
    with pytest.raises(MiningError, match="round before is not there.*reprise pull"):
        label_set("kmeans", "out", number=1, before="gone", clusters=4)


def test_matching_clusters_by_hand():
    before = np.array([0, 0, 0, 1, 1, 2, -1])
    after = np.array([5, 5, 4, 4, 4, -1, 5])
    assert matched_clusters(before, after).tolist() == [0, 0, 1, 1, 1, -1, 0]
    assert share_moved(before, after) == pytest.approx(1 / 5)
    assert share_moved(before, np.full(7, -1)) is None


def test_separation_figures_are_scikit_learns():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 4)), rng.integers(0, 5, 60)
    np.testing.assert_allclose(calinski_harabasz(x, y), calinski_harabasz_score(x, y), rtol=1e-9)
    np.testing.assert_allclose(davies_bouldin(x, y), davies_bouldin_score(x, y), rtol=1e-9)
    unlabelled = np.where(np.arange(60) < 50, y, -1)
    np.testing.assert_allclose(calinski_harabasz(x, unlabelled), calinski_harabasz_score(x[:50], y[:50]), rtol=1e-9)
    assert calinski_harabasz(x, np.zeros(60, int)) is None
    assert davies_bouldin(x, np.zeros(60, int)) is None


def test_the_choice_of_k_finds_the_groups_that_are_there(features, repository, capsys):
    raw = (repository / "params.yaml").read_text().replace("on: features/dae}", "on: features/pixels}")
    Path("params.yaml").write_text(raw)
    options = ["--name", "dae_kmeans", "--clusters", "4", "8", "20", "--out"]
    for out in ("a", "b"):
        choose.main([*options, out])
    told = capsys.readouterr().out
    found = json.loads(Path("a/choice.json").read_text())
    assert found["recommended"] == 8
    assert "recommended: clusters: 8 (best mean rank" in told
    assert file_digest("a/choice.png") == file_digest("b/choice.png")
    Path("params.yaml").write_text(raw.replace("miner: kmeans", "miner: hdbscan"))
    with pytest.raises(MiningError, match="takes no number of clusters.*hdbscan"):
        choose.main(["--name", "dae_kmeans", "--out", "c"])


def test_ranks_share_ties_and_undefined_figures_come_last():
    lines = [
        {"clusters": 2, "silhouette": 0.5, "calinski_harabasz": 9.0, "davies_bouldin": 1.0, "stability": 1.0},
        {"clusters": 4, "silhouette": 0.5, "calinski_harabasz": 8.0, "davies_bouldin": None, "stability": 1.0},
        {"clusters": 8, "silhouette": None, "calinski_harabasz": 9.0, "davies_bouldin": 0.5, "stability": 0.2},
    ]
    best, reason = choose.recommended(lines)
    assert best == 2
    assert reason == "best mean rank, 1.25 of 3: silhouette 1., calinski-harabasz 1., davies-bouldin 2., stability 1."
