"""The probe `intrinsic`: known dimension, copies, too few images."""

from __future__ import annotations

import numpy as np
import pytest

from stages.probe.probes.label_free import intrinsic
from stages.probe.probes.label_free.intrinsic import Intrinsic


def run(data, **params):
    return Intrinsic(Intrinsic.Params(**params)).run(data)


def test_blobs_fill_their_dimensions(make) -> None:
    result = run(make(train=1500, d=4, classes=1))
    assert result.metrics["mle"].value == pytest.approx(4, rel=0.15)
    assert result.metrics["two_nn"].value == pytest.approx(4, rel=0.15)
    assert result.metrics["two_nn_half"].n == 750
    assert all(figure.low is None for figure in result.metrics.values())


def test_rows_are_a_limit_and_labels_are_not_read(make) -> None:
    data = make(train=200)
    result = run(data, rows=50, k=5)
    chosen = data.features("train")[data.choose("train", 50)]
    expected = intrinsic.maximum_likelihood(intrinsic.neighbour_distances(chosen, 5))
    assert result.metrics["mle"].value == pytest.approx(expected)
    unlabelled = run(make(train=200, labels=lambda s, c: None), rows=50, k=5)
    assert unlabelled.metrics == result.metrics


def test_few_images_and_collapsed_features(make) -> None:
    assert "too few" in run(make(train=12)).protocol["note"]
    data = make(train=100)
    data._features["backbone"] = np.full((240, 8), 0.5, np.float32)  # a collapsed run
    assert run(data).protocol["note"] == "not run: 1 distinct training features are too few"
