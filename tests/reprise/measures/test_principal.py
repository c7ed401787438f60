"""Principal components: three ways find the same ones, in memory that does not grow with the square of the pixels."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from reprise.measures import principal
from reprise.measures.principal import Rows, principal_basis, way_for


def scattered(n: int, d: int) -> np.ndarray:
    """Rows whose variance falls by direction, about a mean that is not zero."""
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.normal(size=(d, min(n, d))))[0]
    return rng.normal(size=(n, min(n, d))) * 0.8 ** np.arange(min(n, d)) @ directions.T + rng.normal(size=d)


@pytest.mark.parametrize(("n", "d"), [(40, 25), (25, 40), (300, 60)])
def test_every_way_finds_the_components_of_the_singular_value_decomposition(n: int, d: int) -> None:
    x = scattered(n, d)
    expected = np.abs(np.linalg.svd(x - x.mean(0), full_matrices=False)[0][:, :6])
    for way in ("covariance", "thin", "randomised"):
        rows = Rows(x)
        basis = principal_basis(rows, 6, way)
        got = np.abs(rows.projected(basis))
        np.testing.assert_allclose(got / np.linalg.norm(got, axis=0), expected, atol=2e-5)
        np.testing.assert_allclose(basis.T @ basis, np.eye(6), atol=1e-10)
        assert (basis[np.abs(basis).argmax(0), np.arange(6)] > 0).all()


def test_small_blocks_change_nothing_but_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    x = scattered(50, 80)
    whole = {way: principal_basis(Rows(x), 5, way) for way in ("covariance", "thin", "randomised")}
    monkeypatch.setattr(principal, "BLOCK_BYTES", 8 * 80 * 7)
    for way, basis in whole.items():
        np.testing.assert_allclose(principal_basis(Rows(x), 5, way), basis, atol=1e-8)


def test_photographs_never_make_a_covariance_of_pixels() -> None:
    assert way_for(60_000, 32 * 32 * 3) == "covariance"
    assert way_for(1_000, 224 * 224 * 3) == "thin"
    assert way_for(60_000, 224 * 224 * 3) == "randomised"


def test_more_components_than_rows_are_as_many_as_rows() -> None:
    assert principal_basis(Rows(scattered(6, 50)), 10, "thin").shape == (50, 6)
    assert principal_basis(Rows(scattered(6, 50)), 10, "randomised").shape == (50, 6)
    assert principal_basis(Rows(scattered(6, 50)), 10).shape == (50, 10)


def test_memory_grows_with_the_pixels_and_not_with_their_square() -> None:
    images = np.random.default_rng(0).integers(0, 256, (24, 128, 128, 3), np.uint8)
    for way in ("thin", "randomised"):
        tracemalloc.start()
        principal_basis(Rows(images, 255.0), 4, way)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 8 * 8 * images.size  # the covariance alone would be 19 GB
