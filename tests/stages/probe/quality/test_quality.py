"""kNN and linear probes on embeddings whose answer is known, and where labels are missing or odd."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from reprise.measures.statistics import wilson
from stages.probe import scoring
from stages.probe.data import Part
from stages.probe.probes.quality.knn import Knn
from stages.probe.probes.quality.linear import Linear

BOTH = pytest.mark.parametrize("kind", [Knn, Linear])


def run(kind, data, **params):
    return kind(kind.Params(**params)).run(data)


@BOTH
def test_separated_classes_are_read_off_and_noise_is_not(make, kind) -> None:
    assert run(kind, make(spread=8.0)).metrics["top1"].value > 0.98
    noise = run(kind, make(spread=0.0, test=300)).metrics["top1"]
    assert noise.low < 1 / 3 + 0.05
    assert noise.high > 1 / 3 - 0.05


def test_knn_equals_scikit_learn(make) -> None:
    data = make(spread=1.5)
    result = run(Knn, data, k=11, temperature=0.2)
    peer = KNeighborsClassifier(11, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.2))
    peer.fit(data.features("train"), data.part("train").labels)
    expected = peer.predict(data.features("test"))
    assert [data.classes[i] for i in expected] == result.predictions["predicted"].to_pylist()
    val = float((peer.predict(data.features("val")) == data.part("val").labels).mean())
    assert result.metrics["top1_val"].value == pytest.approx(val)


def test_linear_equals_scikit_learn_at_the_chosen_penalty(make) -> None:
    data = make(spread=1.5)
    result = run(Linear, data)
    penalty = float(result.protocol["penalty"].split(",")[0])
    scaler = StandardScaler().fit(data.features("train").astype(np.float64))
    peer = LogisticRegression(C=1 / (penalty * 200), tol=1e-8, max_iter=5000)
    peer.fit(scaler.transform(data.features("train").astype(np.float64)), data.part("train").labels)
    expected = peer.predict(scaler.transform(data.features("test").astype(np.float64)))
    assert [data.classes[i] for i in expected] == result.predictions["predicted"].to_pylist()
    assert "chosen on 60 val images" in result.protocol["penalty"]


@BOTH
def test_test_labels_change_no_prediction(make, kind) -> None:
    """The test split is scored, never fitted to or chosen on."""
    plain = run(kind, make(spread=1.0))
    shuffled = run(kind, make(spread=1.0, labels=lambda s, c: f"class {(c + 1) % 3 if s == 'test' else c}"))
    assert plain.predictions["predicted"].equals(shuffled.predictions["predicted"])
    assert plain.metrics["top1_val"] == shuffled.metrics["top1_val"]
    assert plain.metrics["top1"] != shuffled.metrics["top1"]


@BOTH
def test_predictions_average_to_top1(make, kind) -> None:
    result = run(kind, make(spread=1.0))
    correct = np.array(result.predictions["correct"].to_pylist())
    assert result.metrics["top1"].value == pytest.approx(correct.mean())
    assert (result.metrics["top1"].low, result.metrics["top1"].high) == wilson(int(correct.sum()), 80)
    assert all(0 < s <= 1 for s in result.predictions["score"].to_pylist())


def test_linear_scores_every_tap(make) -> None:
    result = run(Linear, make(taps={"projector1": 6, "projector2": 4}))
    assert {"top1", "top1_projector1", "top1_projector2", "balanced_accuracy", "top1_val"} == set(result.metrics)
    assert result.metrics["top1"].value > 0.9 > result.metrics["top1_projector1"].value  # those taps hold noise
    assert "penalty_projector2" in result.protocol


def test_recall_table(make) -> None:
    result = run(Linear, make(spread=1.0))
    rows = result.table.to_pylist()
    assert [r["class"] for r in rows] == ["class 0", "class 1", "class 2"]
    assert sum(r["n"] for r in rows) == sum(r["predicted"] for r in rows) == 80
    assert np.mean([r["recall"] for r in rows]) == pytest.approx(result.metrics["balanced_accuracy"].value)


@BOTH
def test_few_val_labels_or_none(make, kind) -> None:
    few, none = run(kind, make(val=5)), run(kind, make(val=0))
    assert few.metrics["top1_val"].n == 5
    assert "top1_val" not in none.metrics
    if kind is Linear:
        assert "not chosen (5 labelled val images are too few)" in few.protocol["penalty"]
        assert "not chosen (0 labelled val images are too few)" in none.protocol["penalty"]


@BOTH
def test_without_a_test_split_val_is_scored_and_nothing_is_chosen_on_it(make, kind) -> None:
    result = run(kind, make(test=0))
    assert result.metrics["top1"].n == 60
    assert "top1_val" not in result.metrics
    assert result.protocol["scored on"] == "val (there is no test split)"
    if kind is Linear:
        assert "not chosen (val is scored as test)" in result.protocol["penalty"]


@BOTH
def test_rows_without_label_are_left_out_and_stated(make, kind) -> None:
    result = run(kind, make(labels=lambda s, c: None if c == 2 else f"class {c}"))
    train = make().part("train").labels
    assert result.protocol["train images"] == f"{(train != 2).sum()} ({(train == 2).sum()} without label left out)"
    assert set(result.predictions["label"].to_pylist()) == {"class 0", "class 1"}


@BOTH
def test_test_classes_absent_from_train_are_errors(make, kind) -> None:
    result = run(kind, make(spread=8.0, labels=lambda s, c: "new" if s == "test" and c == 0 else f"class {c}"))
    wrong = [r for r in result.predictions.to_pylist() if r["label"] == "new"]
    assert wrong
    assert not any(r["correct"] for r in wrong)
    assert result.metrics["top1"].value == pytest.approx(1 - len(wrong) / 80, abs=0.03)
    assert "1 (new): every such test image counts as an error" in result.protocol["classes absent from train"]


@BOTH
def test_single_class_in_train_is_always_the_answer(make, kind) -> None:
    result = run(kind, make(labels=lambda s, c: "only" if s == "train" else f"class {c}"))
    assert set(result.predictions["predicted"].to_pylist()) == {"only"}
    assert result.metrics["top1"].value == 0.0
    assert "single class" in result.protocol
    everywhere = run(kind, make(labels=lambda s, c: "only"))
    assert everywhere.metrics["top1"].value == everywhere.metrics["balanced_accuracy"].value == 1.0


def test_k_beyond_the_bank_is_all_of_it(make) -> None:
    result = run(Knn, make(train=12), k=50)
    assert result.protocol["k"] == "12 (all of train; 50 asked for)"


@BOTH
def test_groups_widen_the_interval(make, kind) -> None:
    plain = run(kind, make(spread=0.5)).metrics["top1"]
    data = make(spread=0.5, groups=lambda i: f"scene {i // 5}")
    grouped = run(kind, data)
    assert grouped.metrics["top1"].value == plain.value
    assert (grouped.metrics["top1"].low, grouped.metrics["top1"].high) != (plain.low, plain.high)
    assert grouped.protocol["interval"] == "Korn and Graubard for shares, bootstrap over groups otherwise"
    assert grouped.predictions["group"].null_count == 0


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"labels": lambda s, c: None}, "no image has a label"),
        ({"labels": lambda s, c: None if s == "train" else "a"}, "no training image"),
        ({"labels": lambda s, c: None if s == "test" else "a"}, "no image of the test split"),
        ({"val": 0, "test": 0}, "neither a test nor a val split"),
    ],
)
def test_reasons_not_to_run(make, options, reason: str) -> None:
    assert reason in scoring.why_not(make(**options))
    assert scoring.why_not(make()) is None


@pytest.mark.parametrize("grouped", [False, True])
def test_balanced_accuracy_equals_scikit_learn(grouped: bool) -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice(4, 300, p=[0.7, 0.2, 0.07, 0.03])
    predicted = np.where(rng.random(300) < 0.7, labels, rng.integers(0, 4, 300))
    groups = np.arange(300) // 5 if grouped else None
    figure = scoring.balanced_accuracy(Part(np.arange(300).astype(str), labels, groups), predicted, 0.95)
    assert figure.value == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert figure.low < figure.value < figure.high
    # rare classes make it far less sure than the plain share is
    low, high = wilson(int((labels == predicted).sum()), 300)
    assert figure.high - figure.low > high - low


def test_balanced_accuracy_interval_covers() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        labels = rng.choice(2, 200, p=[0.8, 0.2])
        predicted = np.where(rng.random(200) < np.array([0.9, 0.6])[labels], labels, 1 - labels)
        figure = scoring.balanced_accuracy(Part(np.arange(200).astype(str), labels), predicted, 0.95)
        hits += figure.low <= 0.75 <= figure.high
    assert 0.90 < hits / 200 < 0.99
