"""Retrieval, Matryoshka and clusters on known data; peers, degenerate splits."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score, average_precision_score, normalized_mutual_info_score
from sklearn.neighbors import KNeighborsClassifier

from reprise.measures.nearest import retrieval
from stages.probe.probes.quality.clusters import Clusters
from stages.probe.probes.quality.matryoshka import Matryoshka, funnel
from stages.probe.probes.quality.retrieval import Retrieval, hit

EVERY = pytest.mark.parametrize(("kind", "metric"), [(Retrieval, "map"), (Matryoshka, "map_at_10"), (Clusters, "nmi")])


def run(kind, data, **params):
    return kind(kind.Params(**({"widths": [2, 4]} if kind is Matryoshka else {}) | params)).run(data)


@EVERY
def test_separated_classes_are_found_and_noise_is_not(make, kind, metric: str) -> None:
    assert run(kind, make(spread=8.0)).metrics[metric].value > 0.97
    assert run(kind, make(spread=0.0, test=300)).metrics[metric].value < 0.55


@EVERY
def test_degenerate_splits(make, kind, metric: str) -> None:
    absent = make(spread=8.0, labels=lambda s, c: "new" if s == "test" and c == 0 else f"class {c}")
    result = run(kind, absent)
    assert "every such test image counts as an error" not in str(result.protocol) or kind is Matryoshka
    assert "classes absent from train" in result.protocol
    nothing = run(kind, make(labels=lambda s, c: f"{s} {c}"))  # no class of test is in train
    assert kind is Clusters or metric not in nothing.metrics
    single = run(kind, make(labels=lambda s, c: "only"))
    assert single.metrics[metric].value == 1.0
    assert run(kind, make(test=0)).metrics[metric].n == 60
    assert run(kind, make(train=3, val=0, test=4, classes=1)).metrics[metric].value == 1.0


def test_retrieval_equals_scikit_learn(make) -> None:
    data = make(spread=1.0)
    result = run(Retrieval, data, k=[1, 5])
    x, q = (data.features(s).astype(float) for s in ("train", "test"))
    x, q = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, q))
    y, truth = data.part("train").labels, data.part("test").labels
    similarity = q @ x.T
    expected = [average_precision_score(y == t, s) for t, s in zip(truth, similarity, strict=True)]
    assert result.metrics["map"].value == pytest.approx(np.mean(expected), abs=1e-6)
    first = np.argsort(-similarity, axis=1)[:, :5]
    assert result.metrics["recall_at_1"].value == pytest.approx(np.mean(y[first[:, 0]] == truth))
    assert result.metrics["recall_at_5"].value == pytest.approx(np.mean((y[first] == truth[:, None]).any(1)))
    assert result.metrics["map"].low < result.metrics["map"].value < result.metrics["map"].high
    assert run(Retrieval, data, queries=10).metrics["map"].n == 10


def test_queries_without_a_right_answer_are_left_out(make) -> None:
    data = make(spread=8.0, labels=lambda s, c: "new" if s == "test" and c == 0 else f"class {c}")
    result = run(Retrieval, data)
    assert result.metrics["map"].n == sum(data.classes[label] != "new" for label in data.part("test").labels)
    assert result.metrics["recall_at_1"].value > 0.97


def test_prefixes_and_components_equal_scikit_learn(make) -> None:
    data = make(spread=1.5)
    result = run(Matryoshka, data, k=11, temperature=0.2)
    y, truth = data.part("train").labels, data.part("test").labels
    pca = PCA(4).fit(data.features("train").astype(float))
    for name, a, b in (
        ("top1_4", data.features("train")[:, :4], data.features("test")[:, :4]),
        ("top1_8", data.features("train"), data.features("test")),
        ("top1_pca_4", *(pca.transform(data.features(s).astype(float)) for s in ("train", "test"))),
    ):
        peer = KNeighborsClassifier(11, metric="cosine", algorithm="brute", weights=lambda v: np.exp((1 - v) / 0.2))
        right = peer.fit(a, y).predict(b) == truth
        assert result.metrics[name].value == pytest.approx(right.mean()), name
    assert {"top1_2", "top1_pca_2"} <= set(result.metrics)
    assert "top1_pca_8" not in result.metrics


def test_a_funnel_that_keeps_everything_loses_nothing(make) -> None:
    data = make(spread=1.0)
    wide = run(Matryoshka, data, shortlist=100_000)
    assert wide.metrics["map_at_10_funnel"].value == pytest.approx(wide.metrics["map_at_10"].value)
    assert wide.metrics["funnel_share"].value == pytest.approx(1.0)
    narrow = run(Matryoshka, data, shortlist=40)
    assert narrow.metrics["funnel_share"].value != pytest.approx(1.0)
    assert narrow.metrics["funnel_cost"].value == pytest.approx((200 * 2 + 40 * 4 + 20 * 8) / (200 * 8))
    assert narrow.protocol["funnel"] == "40 by 2, 20 by 4, 10 by 8"


def test_clusters_agree_as_scikit_learn_counts(make) -> None:
    data = make(spread=3.0)
    result = run(Clusters, data)
    x = data.features("train") / np.linalg.norm(data.features("train"), axis=1, keepdims=True)
    q = data.features("test") / np.linalg.norm(data.features("test"), axis=1, keepdims=True)
    peer = KMeans(3, n_init=10, random_state=0).fit(x)  # classes that are far enough apart for one best answer
    cluster, truth = peer.predict(q), data.part("test").labels
    assert result.metrics["nmi"].value == pytest.approx(normalized_mutual_info_score(truth, cluster))
    assert result.metrics["ari"].value == pytest.approx(adjusted_rand_score(truth, cluster))
    assert result.metrics["nmi"].low is None
    assert run(Clusters, data, clusters=7).protocol["clusters"] == "7, as asked for"


# ---- hits and funnel search -----------------------------------------------------------------------------


def features(n: int, seed: int, d: int = 24) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def test_hits() -> None:
    relevant = np.array([[0, 1, 0], [0, 0, 1]], dtype=bool)
    assert [hit(relevant, k).tolist() for k in (1, 2, 3)] == [[False, False], [True, False], [True, True]]


def test_a_funnel_of_one_step_is_the_full_search() -> None:
    queries, gallery = features(9, 5), features(70, 6)
    kept, cost = funnel(queries, gallery, [(24, 12)])
    ((_, order),) = retrieval.rankings(queries, gallery)
    assert (kept == order[:, :12]).all()
    assert cost == 70 * 24


def test_a_funnel_equals_a_naive_one() -> None:
    queries, gallery = features(9, 7), features(70, 8)
    kept, cost = funnel(queries, gallery, [(4, 30), (8, 11), (24, 5)], cells=50)
    for query, found in zip(queries, kept, strict=True):
        rows = list(range(70))
        for dimensions, keep in ((4, 30), (8, 11), (24, 5)):
            q = query[:dimensions] / np.linalg.norm(query[:dimensions])
            rows.sort(key=lambda i: -float(gallery[i, :dimensions] @ q / np.linalg.norm(gallery[i, :dimensions])))
            rows = rows[:keep]
        assert found.tolist() == rows
    assert cost == 70 * 4 + 30 * 8 + 11 * 24


def test_a_funnel_may_ask_for_more_rows_than_there_are() -> None:
    kept, _ = funnel(features(3, 9), features(6, 10), [(4, 100), (24, 50)])
    assert np.sort(kept, axis=1).tolist() == [[0, 1, 2, 3, 4, 5]] * 3
