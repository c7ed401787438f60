"""Approximately nearest centres by 8-bit integers: a quarter of the cost of float32, for early moves of k-means.

Rows and centres are turned by random signs and a Hadamard matrix, which spreads every feature over its axes so that
few large entries do not coarsen the rounding of the rest, and rounded to 8 bits with one step for all rows. The
comparison is then exact in 32-bit integers: the same on every number of threads. A row is off by at most half a step on
each axis, so an answer is wrong only near a border; labels and last moves are exact (reprise/clustering/lloyd.py).

Why not bfloat16: even where a processor multiplies it, 8-bit integers take about half of its time (430 against 219
billion operations a second on one core of an AMD EPYC, Zen 4), and torch rounds its products to bfloat16.

Legend: n images, b images of one block, d dimensions, K centres, P = d filled up with zeros to whole pieces of the
Hadamard matrix.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.linalg import hadamard

from reprise.clustering.blocks import each_block
from reprise.measures.nearest.shortlist import multiplies_bytes
from reprise.runtime.blocks.arrays import in_blocks

LEVELS = 127  # 8-bit integers, symmetric
LEAST_WORK = 1 << 31  # multiplications, n d K: below, preparing costs more than it saves
CELLS = 1 << 20  # products held at once: 4 MiB, which stays in the cache
PIECE = 128  # side of the Hadamard matrix
TURNED_ROWS = 4096  # turned together
SAMPLE = 4096  # rows that decide on the step
ROOM = 1.25  # for entries larger than any of the sample; what is larger still is cut off


def is_faster(n: int, d: int, K: int, device: str) -> bool:
    """Tell whether this processor multiplies 8-bit integers natively and the work is large enough."""
    return device == "cpu" and multiplies_bytes() and n * d * K >= LEAST_WORK and K >= 64 and 32 <= d <= 1 << 14


class CoarseRows:
    """Rows prepared for searches among changing centres; n x P bytes.

    Args:
        features: (n, d) float32, also memory-mapped.
    """

    def __init__(self, features: np.ndarray) -> None:
        self.n, self.d = features.shape
        self.piece = min(PIECE, 1 << (self.d - 1).bit_length())
        self.width = -(-self.d // self.piece) * self.piece
        rng = np.random.default_rng(0)  # any signs do: they are no part of the result but for its rounding
        self.order = rng.permutation(self.d) if self.width > self.piece else None  # neighbours in different pieces
        self.sign = rng.choice(np.array([-1.0, 1.0], np.float32), self.d)
        self.matrix = torch.from_numpy(hadamard(self.piece).astype(np.float32) / np.float32(self.piece**0.5))
        sample = np.asarray(features[:: -(-self.n // SAMPLE)], dtype=np.float32)
        self.mean = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
        self.step = max(ROOM * float(self._turned(sample).abs().max()), 1e-30) / LEVELS
        self.bits = torch.empty((self.n, self.width), dtype=torch.int8)

        def write(start: int) -> None:
            turned = self._turned(features[start : start + TURNED_ROWS]).div_(self.step).round_()
            self.bits[start : start + TURNED_ROWS] = turned.clamp_(-LEVELS, LEVELS).to(torch.int8)

        each_block(write, range(0, self.n, TURNED_ROWS))
        self.bits_array = self.bits.numpy()  # one object, which is written to a file once

    def _turned(self, rows: np.ndarray) -> torch.Tensor:
        """Take off the mean, flip signs, multiply each piece by the Hadamard matrix: (b, d) -> (b, P) float32.

        The matrix is orthonormal, so distances stay as they are.
        """
        wide = torch.zeros((len(rows), self.width))
        signed = (np.asarray(rows, dtype=np.float32) - self.mean) * self.sign
        wide[:, : self.d] = torch.from_numpy(signed if self.order is None else signed[:, self.order])
        return torch.mm(wide.view(-1, self.piece), self.matrix).view(len(rows), -1)

    def nearest(self, centres: np.ndarray, every: int = 1) -> np.ndarray:
        """Find the centre with the largest score x c - |c|^2 / 2 in integers, the lowest number where two are equal.

        Args:
            centres: (K, d) float32.
            every: answer for one row in so many.

        Returns:
            (ceil(n / every),) int64.
        """
        bits, K = self.bits[::every].numpy(), len(centres)
        turned = self._turned(centres)
        step = max(float(turned.abs().max()), 1e-30) / LEVELS  # centres have a step of their own
        bank = torch.round(turned / step).to(torch.int8).T.contiguous()
        half = (turned.double() ** 2).sum(1) / (2 * self.step * step)  # |c|^2 / 2 in units of the integer products
        half = half.round().clamp(max=2**30).to(torch.int32).numpy()
        found, work = np.empty(len(bits), np.int64), len(bits) * K * self.width
        arrays = [self.bits_array, bank.numpy(), half]
        blocks = in_blocks(_nearest_rows, arrays, len(bits), work, max(1, CELLS // K), 8, {}) if every == 1 else None
        if blocks is None:
            return _nearest_rows(bits, bank.numpy(), half, 0, len(bits))
        for rows, part in blocks:
            found[rows] = part
        return found


def _nearest_rows(bits: np.ndarray, bank: np.ndarray, half: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Compare some rows with all centres.

    Args:
        bits: (n, P) int8, of all rows.
        bank: (P, K) int8.
        half: (K,) int32.
        start: first row.
        stop: the row after the last.

    Returns:
        (stop - start,) int64.
    """
    own, across = torch.from_numpy(bits), torch.from_numpy(bank)
    found = np.empty(stop - start, np.int64)
    rows = max(1, CELLS // len(half))

    def work(first: int) -> None:
        product = torch._int_mm(own[first : min(first + rows, stop)], across).numpy()  # noqa: SLF001 - the only one
        np.subtract(product, half, out=product)
        np.argmax(product, axis=1, out=found[first - start : first - start + rows])

    each_block(work, range(start, stop, rows))
    return found
