"""Principal components in bounded memory: by the covariance, by the thin side, or randomised.

The covariance of d dimensions takes 8 d^2 bytes and its eigenvectors some d^3 operations: an image of 224 pixels in
colour has 150,528 dimensions, so that would be 181 GB. Where there are fewer rows than dimensions, the products of the
rows with each other (n x n, the thin side) have the same components. Where both are many, randomised subspace iteration
finds the leading ones (Halko, Martinsson and Tropp 2011, "Finding structure with randomness", algorithm 4.4): it holds
d x (k + 10) numbers and reads the rows nine times. In a flat spectrum it finds directions of nearly the same variance
instead of the same directions.

Legend: n rows, d dimensions, k components.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

EXACT = 4096  # dimensions, or rows, up to which all eigenvectors are computed: 128 MiB
OVERSAMPLING = 10  # directions besides the k wanted
PASSES = 7  # multiplications with the covariance of the randomised method
BLOCK_BYTES = 1 << 28  # of rows in float64
MOST_ROWS = 8192  # in a block

Way = Literal["covariance", "thin", "randomised"]


def way_for(n: int, d: int) -> Way:
    """Choose how components are found: the covariance where it is small, else the smaller cost."""
    if d <= EXACT:
        return "covariance"
    return "thin" if n <= EXACT else "randomised"


class Rows:
    """The rows of an array as float64, a block at a time.

    Args:
        values: (n, ...) numbers; everything behind the first axis is one row.
        scale: by which they are divided.
    """

    def __init__(self, values: np.ndarray, scale: float = 1.0) -> None:
        self.values, self.scale = values, scale
        self.count, self.dimensions = len(values), int(np.prod(values.shape[1:]))
        self.mean = sum((block.sum(axis=0) for block in self.blocks()), np.zeros(self.dimensions)) / self.count

    def blocks(self) -> Iterator[np.ndarray]:
        """Pass over the rows: (m, d) at a time, at most 256 MiB."""
        rows = max(1, min(MOST_ROWS, BLOCK_BYTES // (8 * self.dimensions)))
        for start in range(0, self.count, rows):
            block = np.asarray(self.values[start : start + rows])
            yield block.reshape(len(block), -1).astype(np.float64) / self.scale

    def projected(self, basis_dk: np.ndarray) -> np.ndarray:
        """Project the centred rows: (n, k) float32."""
        return np.concatenate([((block - self.mean) @ basis_dk).astype(np.float32) for block in self.blocks()])


def principal_basis(rows: Rows, components: int, way: Way | None = None) -> np.ndarray:
    """Find the directions of largest variance, the largest first, each with its largest loading positive.

    Args:
        rows: n of d dimensions.
        components: k.
        way: None chooses it by n and d.

    Returns:
        (d, min(k, d)) float64 by the covariance, else (d, min(k, n, d)).
    """
    way = way or way_for(rows.count, rows.dimensions)
    if way == "covariance":
        basis = _by_covariance(rows)[:, :components]
    else:
        basis = (_by_thin_side if way == "thin" else _randomised)(rows, min(components, rows.count, rows.dimensions))
    return with_fixed_signs(basis)


def with_fixed_signs(basis_dk: np.ndarray) -> np.ndarray:
    """Turn each direction so that its largest loading is positive: (d, k) -> (d, k)."""
    return np.asarray(basis_dk * np.sign(basis_dk[np.abs(basis_dk).argmax(axis=0), np.arange(basis_dk.shape[1])]))


def _by_covariance(rows: Rows) -> np.ndarray:
    second_dd = np.zeros((rows.dimensions, rows.dimensions))
    for block in rows.blocks():
        second_dd += block.T @ block
    return np.asarray(np.linalg.eigh(second_dd / rows.count - np.outer(rows.mean, rows.mean))[1][:, ::-1])


def _by_thin_side(rows: Rows, wanted: int) -> np.ndarray:
    """Turn the eigenvectors of the n x n products into directions: of X X^T v = l v, the direction is X^T v.

    Both products run over blocks of columns, so that only one block is in float64 at a time. A last orthonormalisation
    gives directions without variance (there is one where k = n) a length of one, too.
    """
    n, d = rows.count, rows.dimensions
    flat = np.asarray(rows.values).reshape(n, d)
    step = max(1, BLOCK_BYTES // (8 * n))

    def columns(start: int) -> np.ndarray:
        return flat[:, start : start + step].astype(np.float64) / rows.scale - rows.mean[start : start + step]

    gram_nn = np.zeros((n, n))
    for start in range(0, d, step):
        block = columns(start)
        gram_nn += block @ block.T
    vectors_nk = np.linalg.eigh(gram_nn)[1][:, ::-1][:, :wanted]
    directions = np.concatenate([columns(start).T @ vectors_nk for start in range(0, d, step)])
    return _orthonormal(directions)


def _randomised(rows: Rows, wanted: int) -> np.ndarray:
    width = min(wanted + OVERSAMPLING, rows.count, rows.dimensions)
    basis_dw = _orthonormal(np.random.default_rng(0).standard_normal((rows.dimensions, width)))
    for _ in range(PASSES):
        product_dw = np.zeros_like(basis_dw)
        for block in rows.blocks():
            centred = block - rows.mean
            product_dw += centred.T @ (centred @ basis_dw)
        basis_dw = _orthonormal(product_dw)
    covariance_ww = np.zeros((width, width))
    for block in rows.blocks():
        projected = (block - rows.mean) @ basis_dw
        covariance_ww += projected.T @ projected
    return np.asarray(basis_dw @ np.linalg.eigh(covariance_ww)[1][:, ::-1][:, :wanted])


def _orthonormal(columns_dw: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.qr(columns_dw)[0])
