"""Rows of length one: by their definition, whatever the type, the layout and the number of rows at once."""

from __future__ import annotations

import numpy as np
import pytest

from reprise.measures import unit_vectors
from reprise.measures.unit_vectors import unit


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_rows_have_length_one_and_zeros_stay(dtype) -> None:
    x = (np.random.default_rng(0).normal(size=(50, 7)) * 100).astype(dtype)
    x[3] = 0
    found = unit(x)
    assert found.dtype == np.float64
    assert not found[3].any()
    for row, scaled in zip(np.delete(x, 3, axis=0), np.delete(found, 3, axis=0), strict=True):
        np.testing.assert_allclose(scaled, row / np.sqrt(sum(float(v) ** 2 for v in row)), rtol=1e-14)
    assert unit(x, np.float32).dtype == np.float32
    assert (unit(x, np.float32) == found.astype(np.float32)).all()


@pytest.mark.parametrize("order", ["C", "F"])
def test_blocks_of_rows_change_no_bit(monkeypatch: pytest.MonkeyPatch, order: str) -> None:
    x = np.asarray(np.random.default_rng(0).normal(size=(301, 19)), dtype=np.float32, order=order)
    whole = unit(x)
    monkeypatch.setattr(unit_vectors, "ROWS", 64)
    assert (unit(x) == whole).all()
    assert unit(x).flags[f"{order}_CONTIGUOUS"]
    length = np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    assert (whole == x / length).all()


def test_no_rows_are_no_error() -> None:
    assert unit(np.empty((0, 3), np.float32)).shape == (0, 3)
