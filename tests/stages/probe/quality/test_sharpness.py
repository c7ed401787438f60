"""Label sharpness against brute force over all pairs, its invariances, and where it is undefined."""

from __future__ import annotations

import numpy as np
import pytest

from stages.probe.probes.quality.sharpness import Sharpness, label_sharpness


def test_equals_brute_force_over_all_pairs() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 5)), rng.integers(0, 3, 40)
    pairs = [(i, j) for i in range(40) for j in range(i)]
    scale = np.sqrt(np.mean([((x[i] - x[j]) ** 2).sum() for i, j in pairs]))
    steepest = max(float(y[i] != y[j]) / np.linalg.norm((x[i] - x[j]) / scale) for i, j in pairs)
    assert label_sharpness(x, y) == (pytest.approx(steepest), 0)


def test_scale_offset_and_rotation_change_nothing() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(30, 4)), rng.integers(0, 2, 30)
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    assert label_sharpness(5 * x @ turn - 3, y)[0] == pytest.approx(label_sharpness(x, y)[0])


def test_unlike_labels_at_one_place_are_counted_apart() -> None:
    x, y = np.array([[0.0], [0.0], [1.0], [3.0]]), np.array([0, 1, 0, 1])
    value, together = label_sharpness(x, y)
    scale = np.sqrt((0 + 1 + 1 + 9 + 9 + 4) / 6)
    assert (value, together) == (pytest.approx(scale), 1)  # the nearest unlike pair that is apart: 0 and 1
    with pytest.raises(ValueError, match="one place"):
        label_sharpness(np.zeros((4, 2)), y)
    with pytest.raises(ValueError, match="two points"):
        label_sharpness(x[:1], y[:1])


def test_one_class_has_no_sharpness() -> None:
    assert label_sharpness(np.arange(3.0)[:, None], np.zeros(3, int)) == (0.0, 0)


def test_classes_apart_are_less_sharp_than_classes_mixed(make) -> None:
    sharp = {s: Sharpness(Sharpness.Params()).run(make(spread=s)).metrics["k_f"].value for s in (0.0, 20.0)}
    assert sharp[20.0] < 2 < sharp[0.0]


def test_rows_are_counted_and_a_single_class_is_named(make) -> None:
    found = Sharpness(Sharpness.Params(rows=50)).run(make())
    assert (found.metrics["k_f"].n, found.protocol["images"]) == (50, "50")
    alone = Sharpness(Sharpness.Params()).run(make(labels=lambda *_: "only"))
    assert not alone.metrics
    assert "two classes" in alone.protocol["note"]
