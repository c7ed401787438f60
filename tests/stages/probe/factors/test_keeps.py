"""The probe `keeps`: every fact on one scale, against scikit-learn, and honest at its edges."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import r2_score
from sklearn.preprocessing import StandardScaler

from reprise.artifacts.facts.table import Facts, write_facts
from reprise.artifacts.layout import ALL_FACTS
from reprise.config.facts import Fact
from stages.probe.data import ProbeData
from stages.probe.probes.factors.keeps import Keeps, errors_avoided

Values = Callable[[str, np.ndarray, np.random.Generator], Any]


@pytest.fixture
def data(make) -> Callable[..., ProbeData]:
    """`data(name=(kind, function of split, features and generator))`."""

    def build(options: dict[str, Any] | None = None, **facts: tuple[str, Values]) -> ProbeData:
        plain = make(**({"spread": 1.0} | (options or {})))
        rng, keys = np.random.default_rng(0), []
        columns: dict[str, list[Any]] = {name: [] for name in facts}
        for split in ("train", "val", "test"):
            for key, x in zip(plain.part(split).keys, plain.features(split), strict=True):
                keys.append(key)
                for name, (_, value) in facts.items():
                    columns[name].append(value(split, x, rng))
        arrays = {
            name: np.array(found, dtype=object if facts[name][0] == "word" else float)
            for name, found in columns.items()
        }
        declared = tuple(Fact(name, kind) for name, (kind, _) in facts.items())  # type: ignore[arg-type]
        ALL_FACTS.mkdir(parents=True, exist_ok=True)
        write_facts(ALL_FACTS, Facts(declared, np.array(keys, dtype=object), arrays))
        return ProbeData("data/embeddings.parquet", "data/manifest.parquet")

    return build


def size(split: str, x: np.ndarray, rng: np.random.Generator) -> float:
    return float(3 * x[0] - x[1] + 0.5 * rng.normal() + 40)


def side(split: str, x: np.ndarray, rng: np.random.Generator) -> str:
    return ("left", "middle", "right")[int(np.digitize(x[2] + 0.3 * rng.normal(), (-0.5, 1.2)))]


def red(split: str, x: np.ndarray, rng: np.random.Generator) -> float:
    return float(x[3] + 0.5 * rng.normal() > 0.8)


def coin(split: str, x: np.ndarray, rng: np.random.Generator) -> str:
    return "heads" if rng.random() < 0.6 else "tails"


def test_every_fact_equals_scikit_learn_on_one_scale(data) -> None:
    d = data(size=("number", size), side=("word", side), red=("flag", red), coin=("word", coin))
    result = Keeps(Keeps.Params()).run(d)
    assert set(result.metrics) == {"kept", "kept_class", "kept_size", "kept_side", "kept_red", "kept_coin"}
    scaler = StandardScaler().fit(d.features("train").astype(float))
    x, x_test = (scaler.transform(d.features(s).astype(float)) for s in ("train", "test"))
    penalties = {n: float(result.protocol[f"penalty of {n}"].split(",")[0]) for n in ("size", "side", "red", "class")}
    peer = Ridge(alpha=penalties["size"] * 200).fit(x, d.target("size", "train"))
    expected = r2_score(d.target("size", "test"), peer.predict(x_test))
    assert result.metrics["kept_size"].value == pytest.approx(expected, abs=1e-5)
    labels = {s: {n: d.target(n, s).tolist() for n in ("side", "red")} for s in ("train", "test")}
    for s in labels:
        labels[s]["class"] = d.part(s).labels.tolist()
    for name in ("side", "red", "class"):
        y, y_test = labels["train"][name], labels["test"][name]
        peer = LogisticRegression(C=1 / (penalties[name] * 200), tol=1e-9, max_iter=5000).fit(x, y)
        wrong = sum(a != b for a, b in zip(peer.predict(x_test).tolist(), y_test, strict=True))
        common = max(set(y), key=y.count)
        always = sum(b != common for b in y_test)
        figure = result.metrics[f"kept_{name}"]
        assert figure.value == pytest.approx(1 - wrong / always, abs=2 / always)
        assert figure.low < figure.value < figure.high
        assert figure.value > 0.3
    assert abs(result.metrics["kept_coin"].value) < 0.35  # nothing to be read
    values = [f.value for n, f in result.metrics.items() if n != "kept"]
    assert result.metrics["kept"].value == pytest.approx(np.mean(values))


def test_the_constant_answer_is_0_and_no_error_is_1() -> None:
    always = np.array([False, True, True, False, True])
    assert errors_avoided(always, always)[0] == 0
    assert errors_avoided(np.zeros(5, bool), always)[0] == 1
    assert errors_avoided(np.ones(5, bool), always)[0] == pytest.approx(1 - 5 / 3)
    weights = np.array([[1, 2, 0, 1, 1], [5, 0, 0, 0, 0]], float)
    found = errors_avoided(np.array([True, True, False, False, False]), always, weights)
    assert found[0] == pytest.approx(1 - 3 / 3) and np.isnan(found[1])


def test_test_values_change_no_choice(data) -> None:
    def shifted(flip: bool) -> dict[str, tuple[str, Values]]:
        return {
            "side": ("word", lambda s, x, r: "left" if flip and s == "test" and x[0] > 0 else side(s, x, r)),
            "size": ("number", lambda s, x, r: (-1 if flip and s == "test" else 1) * size(s, x, r)),
        }

    first, second = (Keeps(Keeps.Params()).run(data(**shifted(flip))) for flip in (False, True))
    assert first.protocol == second.protocol
    for name in ("kept_side", "kept_size"):
        assert second.metrics[name].value < first.metrics[name].value - 0.1


def test_what_does_not_vary_and_words_that_are_names_are_left_out_by_name(data) -> None:
    d = data(
        same=("word", lambda s, x, r: "one"),
        constant=("number", lambda s, x, r: 3.0),
        title=("word", lambda s, x, r: f"number {r.integers(10**9)}"),
        no_train=("flag", lambda s, x, r: np.nan if s == "train" else red(s, x, r)),
        red=("flag", red),
    )
    result = Keeps(Keeps.Params()).run(d)
    assert set(result.metrics) == {"kept", "kept_red", "kept_class"}
    assert result.protocol["left out"] == "same, title, no_train, constant"


def test_unknown_values_are_left_out_and_values_that_train_lacks_are_errors(data) -> None:
    d = data(
        side=("word", lambda s, x, r: None if r.random() < 0.5 else side(s, x, r)),
        new=("word", lambda s, x, r: "new" if s == "test" and r.random() < 0.5 else side(s, x, r)),
    )
    found = Keeps(Keeps.Params()).run(d).metrics
    assert found["kept_side"].n == sum(v is not None for v in d.target("side", "test").tolist()) < 80
    assert found["kept_new"].value < 0.6


def test_without_labels_facts_are_read_and_without_facts_the_class_is(data, make) -> None:
    assert set(Keeps(Keeps.Params()).run(make()).metrics) == {"kept", "kept_class"}
    nothing = Keeps(Keeps.Params()).run(make(labels=lambda s, c: None))
    assert nothing.metrics == {}
    assert nothing.protocol["note"] == "not run: no fact of the images is a number, a flag or a word"
    unlabelled = data({"labels": lambda s, c: None}, size=("number", size))
    assert set(Keeps(Keeps.Params()).run(unlabelled).metrics) == {"kept", "kept_size"}


def test_groups_are_drawn_whole(data, tmp_path: Path) -> None:
    d = data({"groups": lambda i: f"g{i // 4}"}, red=("flag", red))
    figure = Keeps(Keeps.Params()).run(d).metrics["kept_red"]
    assert figure.low is not None and figure.low < figure.value < figure.high
