"""Attributes and quantities from targets.csv: peers, honesty, degenerate columns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import average_precision_score, mean_absolute_error, r2_score
from sklearn.preprocessing import StandardScaler

from reprise.artifacts.facts.table import write_facts
from reprise.artifacts.layout import ALL_FACTS
from stages.facts.gather import gather
from stages.facts.params import FactsParams
from stages.probe.data import ProbeData
from stages.probe.probes.quality.multilabel import Multilabel
from stages.probe.probes.quality.regression import Regression


@pytest.fixture
def data(make) -> Callable[..., ProbeData]:
    """`data(**columns)`: column -> function of (split, features (d,), generator) -> number or None."""

    def build(options: dict | None = None, **columns) -> ProbeData:
        plain = make(**({"spread": 1.0} | (options or {})))
        rng = np.random.default_rng(0)
        lines = [",".join(["key", *columns])]
        for split in ("train", "val", "test"):
            for key, x in zip(plain.part(split).keys, plain.features(split), strict=True):
                found = [column(split, x, rng) for column in columns.values()]
                lines.append(",".join([key, *("" if v is None else repr(float(v)) for v in found)]))
        Path("targets.csv").write_text("\n".join(lines), encoding="utf-8")
        facts, _ = gather(FactsParams(), Path("targets.csv"), Path("data"))
        ALL_FACTS.mkdir(parents=True, exist_ok=True)
        write_facts(ALL_FACTS, facts)
        return ProbeData("data/embeddings.parquet", "data/manifest.parquet")

    return build


def big(split: str, x: np.ndarray, rng: np.random.Generator) -> float:
    return float(x[0] + 0.5 * rng.normal() > 0.5)


def sum_of_two(split: str, x: np.ndarray, rng: np.random.Generator) -> float:
    return 3 * x[0] - x[1] + 0.5 * rng.normal() + 40


def test_attributes_equal_scikit_learn(data) -> None:
    d = data(big=big, other=lambda s, x, r: float(x[1] > 0), age=sum_of_two)
    result = Multilabel(Multilabel.Params()).run(d)
    penalty = float(result.protocol["penalty"].split(",")[0])
    scaler = StandardScaler().fit(d.features("train").astype(float))
    precisions = []
    for name in ("big", "other"):
        peer = LogisticRegression(C=1 / (penalty * 200), tol=1e-9, max_iter=5000)
        peer.fit(scaler.transform(d.features("train").astype(float)), d.target(name, "train"))
        scores = peer.decision_function(scaler.transform(d.features("test").astype(float)))
        precisions.append(average_precision_score(d.target(name, "test"), scores))
        assert result.metrics[f"ap_{name}"].value == pytest.approx(precisions[-1], abs=2e-3)
    figure = result.metrics["map"]
    assert figure.value == pytest.approx(np.mean(precisions), abs=2e-3)
    assert figure.low < figure.value < figure.high
    assert set(result.metrics) == {"map", "map_val", "ap_big", "ap_other"}
    assert "chosen by mAP on 60 val images" in result.protocol["penalty"]


def test_quantities_equal_scikit_learn(data) -> None:
    d = data(age=sum_of_two, big=big)
    result = Regression(Regression.Params()).run(d)
    penalty = float(result.protocol["penalty of age"].split(",")[0])
    scaler = StandardScaler().fit(d.features("train").astype(float))
    peer = Ridge(alpha=penalty * 200).fit(scaler.transform(d.features("train").astype(float)), d.target("age", "train"))
    answers, truth = peer.predict(scaler.transform(d.features("test").astype(float))), d.target("age", "test")
    assert result.metrics["r2_age"].value == pytest.approx(r2_score(truth, answers), abs=1e-5)
    assert result.metrics["mae_age"].value == pytest.approx(mean_absolute_error(truth, answers), abs=1e-5)
    assert result.metrics["r2"].value == result.metrics["r2_age"].value > 0.9
    assert result.metrics["r2_age"].low < result.metrics["r2_age"].value < result.metrics["r2_age"].high


def test_test_targets_change_no_choice(data) -> None:
    first, second = (
        data(
            big=lambda s, x, r, flip=flip: abs((flip and s == "test") - big(s, x, r)),
            age=lambda s, x, r, flip=flip: (-1 if flip and s == "test" else 1) * sum_of_two(s, x, r),
        )
        for flip in (False, True)
    )
    for kind, metric in ((Multilabel, "map"), (Regression, "r2")):
        a, b = kind(kind.Params()).run(first), kind(kind.Params()).run(second)
        assert a.protocol == b.protocol
        assert b.metrics[metric].value < a.metrics[metric].value - 0.2


def test_unknown_values_are_left_out(data) -> None:
    d = data(
        big=lambda s, x, r: None if r.random() < 0.5 else big(s, x, r), half=lambda s, x, r: x[0] if x[1] > 0 else None
    )
    found = Multilabel(Multilabel.Params()).run(d).metrics["ap_big"]
    assert found.n == int((~np.isnan(d.target("big", "test"))).sum()) < 80
    exact = Regression(Regression.Params()).run(d).metrics
    assert exact["r2_half"].value > 0.99
    assert exact["r2_half"].n < 80


def test_columns_without_variation_are_left_out_by_name(data) -> None:
    d = data(
        never=lambda s, x, r: float(s != "train" and x[0] > 0),
        constant=lambda s, x, r: 5.0,
        no_train=lambda s, x, r: None if s == "train" else x[0],
        big=big,
    )
    attributes, quantities = Multilabel(Multilabel.Params()).run(d), Regression(Regression.Params()).run(d)
    assert attributes.protocol["left out"] == "never"
    assert quantities.protocol["left out"] == "constant, no_train"
    assert quantities.metrics == {}


def test_without_targets_or_splits_the_reason_is_given(data, make) -> None:
    plain = make()
    for kind in (Multilabel, Regression):
        assert kind(kind.Params()).run(plain).protocol["note"].startswith("not run: targets.csv has no column")
    unscored = data({"val": 0, "test": 0}, big=big, age=sum_of_two)
    for kind in (Multilabel, Regression):
        assert kind(kind.Params()).run(unscored).protocol["note"] == "not run: there is no split to score"


def test_few_val_images_choose_nothing(data) -> None:
    d = data({"val": 5}, big=big, age=sum_of_two)
    assert "not chosen" in Multilabel(Multilabel.Params()).run(d).protocol["penalty"]
    assert "not chosen" in Regression(Regression.Params()).run(d).protocol["penalty of age"]


def test_the_digest_sees_targets(data) -> None:
    assert data(age=sum_of_two).digest(False) != data(age=lambda s, x, r: x[0]).digest(False)
