"""Prototypes, few labels, SVM, taps, incremental classes: peers, honesty, degenerate splits."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import LinearSVC

from reprise.measures.statistics import bootstrap_mean
from stages.probe import scoring
from stages.probe.data import Part
from stages.probe.probes.quality.few_shot import FewShot
from stages.probe.probes.quality.gacil import Gacil
from stages.probe.probes.quality.label_fraction import LabelFraction
from stages.probe.probes.quality.linear import Linear
from stages.probe.probes.quality.prototype import Prototype
from stages.probe.probes.quality.svm import Svm
from stages.probe.probes.quality.taps import Taps

TAPS = {"projector1": 6, "projector2": 4}
SMALL = {Gacil: {"width": 40, "batch": 30}, FewShot: {"episodes": 20}, LabelFraction: {"percents": [10.0]}}
EVERY = pytest.mark.parametrize("kind", [Prototype, FewShot, LabelFraction, Svm, Taps, Gacil])
ANSWERING = pytest.mark.parametrize("kind", [Prototype, Svm, Gacil])


def run(kind, data, **params):
    return kind(kind.Params(**(SMALL.get(kind, {}) | params))).run(data)


def main_metric(kind) -> str:
    return {FewShot: "top1_5_shot", LabelFraction: "top1_10_percent", Taps: "top1_backbone"}.get(kind, "top1")


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@EVERY
def test_separated_classes_are_read_off_and_noise_is_not(make, kind) -> None:
    assert run(kind, make(spread=8.0, taps=TAPS)).metrics[main_metric(kind)].value > 0.97
    noise = run(kind, make(spread=0.0, test=300, taps=TAPS)).metrics[main_metric(kind)]
    assert noise.low < 1 / 3 + 0.05
    assert noise.high > 1 / 3 - 0.05


@EVERY
def test_same_data_same_result(make, kind) -> None:
    data = make(spread=1.0, taps=TAPS)
    first, second = run(kind, data), run(kind, data)
    assert first.metrics == second.metrics
    assert first.protocol == second.protocol


@ANSWERING
def test_test_labels_change_no_prediction(make, kind) -> None:
    plain = run(kind, make(spread=1.0))
    shuffled = run(kind, make(spread=1.0, labels=lambda s, c: f"class {(c + 1) % 3 if s == 'test' else c}"))
    assert plain.predictions["predicted"].equals(shuffled.predictions["predicted"])
    assert plain.metrics["top1_val"] == shuffled.metrics["top1_val"]
    assert plain.metrics["top1"] != shuffled.metrics["top1"]


@pytest.mark.parametrize("kind", [FewShot, LabelFraction, Taps])
def test_test_labels_change_no_choice(make, kind) -> None:
    """A renaming of all test labels to another class leaves nothing right that was right before."""
    right = run(kind, make(spread=8.0, taps=TAPS))
    wrong = run(kind, make(spread=8.0, taps=TAPS, labels=lambda s, c: f"class {(c + 1) % 3 if s == 'test' else c}"))
    assert right.protocol == wrong.protocol
    assert wrong.metrics[main_metric(kind)].value <= 1 - right.metrics[main_metric(kind)].value


@ANSWERING
def test_predictions_average_to_top1(make, kind) -> None:
    result = run(kind, make(spread=1.0))
    assert np.mean(result.predictions["correct"].to_pylist()) == pytest.approx(result.metrics["top1"].value)


@EVERY
def test_degenerate_splits(make, kind) -> None:
    name = main_metric(kind)
    alone = run(kind, make(taps=TAPS, labels=lambda s, c: "only" if s == "train" else f"class {c}"))
    assert alone.metrics[name].value == 0.0
    assert "single class" in alone.protocol
    absent = run(
        kind, make(spread=8.0, taps=TAPS, labels=lambda s, c: "new" if s == "test" and c == 0 else f"class {c}")
    )
    assert absent.metrics[name].value < 0.8
    assert "every such test image counts as an error" in absent.protocol["classes absent from train"]
    without_val = run(kind, make(val=0, taps=TAPS))
    assert "top1_val" not in without_val.metrics
    scored_on_val = run(kind, make(test=0, taps=TAPS))
    assert scored_on_val.metrics[name].n == 60
    if kind in (LabelFraction, Svm, Taps, Gacil):
        for result in (without_val, scored_on_val):
            chosen = [v for k, v in result.protocol.items() if k.startswith(("penalty", "gamma"))]
            assert chosen
            assert all("not chosen" in text for text in chosen)


def test_prototype_equals_scikit_learn_on_unit_means(make) -> None:
    data = make(spread=1.5)
    x, y, q = data.features("train"), data.part("train").labels, data.features("test")
    means = np.stack([unit(x)[y == c].mean(0) for c in range(3)])
    peer = KNeighborsClassifier(1).fit(
        unit(means), np.arange(3)
    )  # unit means: the nearest is the one of largest cosine
    expected = [data.classes[i] for i in peer.predict(unit(q))]
    assert run(Prototype, data).predictions["predicted"].to_pylist() == expected


def test_few_shot_equals_a_naive_loop(make) -> None:
    data = make(spread=1.0)
    result = run(FewShot, data, shots=[3], episodes=7)
    x, y = unit(data.features("train").astype(float)), data.part("train").labels
    q, truth = unit(data.features("test").astype(float)), data.part("test").labels
    rng, found = np.random.default_rng([0, 3]), []
    for _ in range(7):
        means = []
        for c in range(3):
            means.append(x[rng.choice(np.flatnonzero(y == c), 3, replace=False)].mean(0))
        found.append(np.mean([int(np.argmax([v @ m / np.linalg.norm(m) for m in means])) for v in q] == truth))
    assert result.metrics["top1_3_shot"].value == pytest.approx(np.mean(found))
    assert result.metrics["sd_3_shot"].value == pytest.approx(np.std(found, ddof=1))


def test_more_shots_help_and_classes_too_small_give_all_they_have(make) -> None:
    metrics = run(FewShot, make(spread=1.5), shots=[1, 20]).metrics
    assert metrics["top1_20_shot"].value > metrics["top1_1_shot"].value + 0.05
    assert metrics["sd_20_shot"].value < metrics["sd_1_shot"].value
    few = run(FewShot, make(train=12, spread=1.5), shots=[50])
    assert "3 classes have fewer training images" in few.protocol["50-shot"]
    assert few.metrics["sd_50_shot"].value == 0.0  # every draw is the whole class


def test_all_labels_are_the_linear_probe(make) -> None:
    data = make(spread=1.0)
    whole, linear = run(LabelFraction, data, percents=[100.0], draws=2), run(Linear, data)
    assert whole.metrics["top1_100_percent"].value == pytest.approx(linear.metrics["top1"].value, abs=1 / 80 + 1e-9)
    part = run(LabelFraction, data, percents=[2.5], draws=2)
    assert part.protocol["labels at 2.5 %"] in {f"{n} training images" for n in (4, 5, 6)}
    assert "top1_2_5_percent" in part.metrics


def test_svm_equals_linear_svc_at_the_chosen_penalty(make) -> None:
    data = make(spread=1.5)
    result = run(Svm, data, power=0.5)

    def prepared(split: str) -> np.ndarray:
        x = data.features(split).astype(float)
        return unit(np.sign(x) * np.sqrt(np.abs(x)))

    penalty = float(result.protocol["penalty"].split(",")[0])
    mean = prepared("train").mean(0)
    peer = LinearSVC(C=1 / (penalty * 200), dual=False, tol=1e-9, max_iter=10_000, intercept_scaling=1000.0)
    peer.fit(prepared("train") - mean, data.part("train").labels)
    expected = [data.classes[i] for i in peer.predict(prepared("test") - mean)]
    agree = np.mean([a == b for a, b in zip(result.predictions["predicted"].to_pylist(), expected, strict=True)])
    assert agree >= 1 - 1 / 80  # an image on the border may fall either way


def test_gains_over_later_taps_are_paired(make) -> None:
    data = make(taps=TAPS)
    result = run(Taps, data)
    assert set(result.metrics) == {
        "top1_backbone", "top1_projector1", "top1_projector2", "gain_over_projector1", "gain_over_projector2"
    }  # fmt: skip
    gain = result.metrics["gain_over_projector1"]
    assert gain.value == pytest.approx(result.metrics["top1_backbone"].value - result.metrics["top1_projector1"].value)
    assert 0 < gain.low < gain.value < gain.high  # those taps hold noise
    assert "only tap" in run(Taps, make()).protocol["note"]


def test_incremental_classes_end_where_joint_training_ends(make) -> None:
    data = make(classes=6, train=400, spread=4.0)
    one, many = run(Gacil, data, phases=1), run(Gacil, data, phases=4, blurry=0.3, batch=17)
    assert many.metrics["relative_error"].value < 1e-6
    assert one.predictions["predicted"].equals(many.predictions["predicted"])
    assert one.metrics["top1"] == many.metrics["top1"]
    assert one.metrics["top1_average"].value == pytest.approx(one.metrics["top1"].value)
    assert many.metrics["top1_average"].value >= many.metrics["top1"].value - 0.05  # fewer classes are easier


def test_every_image_is_in_one_phase() -> None:
    labels = np.repeat(np.arange(8), 20)
    phases = Gacil(Gacil.Params(phases=3, blurry=0.5))._phases(labels)
    assert np.sort(np.concatenate(phases)).tolist() == list(range(160))
    spread = [len({p for p, rows in enumerate(phases) if (labels[rows] == c).any()}) for c in range(8)]
    assert sorted(spread) == [1, 1, 1, 1, 3, 3, 3, 3]


def test_interval_over_draws_and_examples_covers() -> None:
    """Accuracy varies with the image and with the draw; the truth is 0.7."""
    rng, hits, narrow = np.random.default_rng(0), 0, 0
    part = Part(np.arange(150).astype(str), np.zeros(150, np.int64))
    for _ in range(150):
        easy, luck = rng.normal(size=150) * 0.15, rng.normal(size=(5, 1)) * 0.05
        correct = rng.random((5, 150)) < np.clip(0.7 + easy + luck, 0, 1)
        figure = scoring.over_draws(part, correct, 0.95)
        hits += figure.low <= 0.7 <= figure.high
        low, high = bootstrap_mean(correct.mean(0))
        narrow += low <= 0.7 <= high
    assert hits / 150 > 0.90
    assert narrow < hits  # drawing images alone forgets that the labels were drawn, too
