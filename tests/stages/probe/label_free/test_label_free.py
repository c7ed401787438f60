"""Spectrum, map and neighbours: known answers, the same bits, no labels."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from reprise.measures import spectrum
from stages.probe.probes.label_free import map as map_probe
from stages.probe.probes.label_free.lookalikes import Lookalikes
from stages.probe.probes.label_free.map import Map
from stages.probe.probes.label_free.neighbours import Neighbours
from stages.probe.probes.label_free.spectrum import Spectrum

UNLABELLED = {"labels": lambda s, c: None}


def run(kind, data, **params):
    return kind(kind.Params(**params)).run(data)


def test_spectrum_reports_the_measures_without_intervals(make) -> None:
    data = make(**UNLABELLED)
    result = run(Spectrum, data)
    assert result.metrics["rankme"].value == pytest.approx(spectrum.rankme(data.features("train")))
    assert set(result.metrics) == {"rankme", "effective_rank", "participation_ratio", "feature_std", "uniformity"}
    assert all((f.low, f.high, f.n) == (None, None, 200) for f in result.metrics.values())
    assert run(Spectrum, data, rows=50).metrics["rankme"].n == 50


def test_neighbours_equal_a_naive_search(make) -> None:
    data = make(**UNLABELLED)
    rows = run(Neighbours, data, queries=6, k=4).table.to_pylist()
    assert len(rows) == 24
    bank, keys = data.features("train").astype(np.float64), data.part("train").keys
    features = dict(zip(data.part("test").keys, data.features("test").astype(np.float64), strict=True))
    for query in {r["key"] for r in rows}:
        own = [r for r in rows if r["key"] == query]
        cosine = bank @ features[query] / np.linalg.norm(bank, axis=1) / np.linalg.norm(features[query])
        best = np.argsort(-cosine)[:4]
        assert [r["neighbour_key"] for r in own] == keys[best].tolist()
        assert [r["rank"] for r in own] == [1, 2, 3, 4]
        assert [r["similarity"] for r in own] == pytest.approx(cosine[best], abs=1e-6)


def test_without_other_splits_a_query_is_not_its_own_neighbour(make) -> None:
    rows = run(Neighbours, make(train=30, val=0, test=0), k=5).table.to_pylist()
    assert len(rows) == 24 * 5
    assert all(r["key"] != r["neighbour_key"] for r in rows)


def test_few_images_give_few_neighbours(make) -> None:
    assert run(Neighbours, make(train=3, val=0, test=2)).table.num_rows == 6


def test_lookalikes_are_test_images_that_nearly_coincide_with_a_training_image(make) -> None:
    def copy(x: np.ndarray) -> None:
        x[[263, 300, 330]] = x[[11, 5, 11]] * [[1], [2], [1]]
        x[[263, 300, 330], 0] += [0.01, 0.04, 0.05]

    data = make(**UNLABELLED, change=copy)
    keys, bank = data.part("test").keys, data.part("train").keys
    y, x = (f.astype(np.float64) for f in (data.features("test"), data.features("train")))
    apart = 1 - (y / np.linalg.norm(y, axis=1, keepdims=True)) @ (x / np.linalg.norm(x, axis=1, keepdims=True)).T
    nearest = apart.min(axis=1)
    expected = [q for q in np.argsort(nearest) if nearest[q] * 10 <= np.median(nearest)]
    assert 3 <= len(expected) < 10
    result = run(Lookalikes, data)
    rows = result.table.to_pylist()
    assert [(r["key"], r["neighbour_key"]) for r in rows] == [(keys[q], bank[apart[q].argmin()]) for q in expected]
    assert [r["similarity"] for r in rows] == pytest.approx(1 - nearest[expected], abs=1e-6)
    assert result.metrics == {}


def test_lookalikes_that_are_not_listed_are_counted(make) -> None:
    result = run(Lookalikes, make(**UNLABELLED), pairs=2, times=1)
    assert result.table.num_rows == 2
    assert result.protocol["listed"].startswith("2 of 40 test images that lie at least 1 times nearer")


def test_lookalikes_are_not_looked_for_where_they_would_mean_nothing(make) -> None:
    assert "no training images beside" in run(Lookalikes, make(train=30, val=0, test=0)).protocol["note"]

    def collapse(x: np.ndarray) -> None:
        x *= 1e-6
        x += 1

    assert "hardly any images apart" in run(Lookalikes, make(**UNLABELLED, change=collapse)).protocol["note"]


def test_map_keeps_classes_together(make) -> None:
    data = make(spread=8.0, test=150)
    table = run(Map, data).table
    label = dict(zip(data.part("test").keys, data.part("test").labels, strict=True))
    y = np.array([label[k] for k in table["key"].to_pylist()])
    points = np.column_stack([table["x"], table["y"]])
    distance = np.linalg.norm(points[:, None] - points[None], axis=2) + 1e9 * np.eye(len(points))
    assert (y[distance.argmin(1)] == y).mean() > 0.97


def test_map_is_bit_for_bit_the_same_whatever_the_threads(make) -> None:
    data = make(test=120)
    tables = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            torch.set_num_threads(threads)
            tables.append(run(Map, data, steps=250).table)
    torch.set_num_threads(1)
    assert tables[0].equals(tables[1])


@pytest.mark.slow
def test_map_is_bit_for_bit_the_same_in_another_process(tmp_path) -> None:
    code = (
        "import numpy as np, hashlib; from stages.probe.probes.label_free.map import Map, layout;"
        "x = np.random.default_rng(0).normal(size=(200, 16)).astype('f');"
        "print(hashlib.sha256(layout(x, Map.Params())[0].tobytes()).hexdigest())"
    )
    found = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(found) == 1


def test_map_time_is_bounded(make) -> None:
    data = make(test=400, d=64)
    run(Map, make(test=20))  # imports
    began = time.process_time()
    table = run(Map, data).table
    assert table.num_rows == 400
    assert time.process_time() - began < 15


@pytest.mark.parametrize(("test", "d"), [(1, 8), (2, 8), (5, 8), (30, 1)])
def test_map_of_few_images_or_one_dimension(make, test: int, d: int) -> None:
    result = run(Map, make(test=test, d=d, classes=1))
    assert result.table.num_rows == test
    assert np.isfinite(result.table["x"].to_numpy()).all()


def test_map_of_collapsed_features_falls_back(make) -> None:
    points, how = map_probe.layout(np.ones((50, 8), np.float32), Map.Params())
    assert "too few distinct" in how
    assert (points == 0).all()


def test_map_takes_at_most_the_rows_asked_for(make) -> None:
    assert run(Map, make(test=80), rows=20).table.num_rows == 20
