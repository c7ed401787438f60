"""Pairs of images that may be near-copies, found without comparing all with all.

The signs of the coefficients make a signature of 51 bits; those of near-copies differ in a few. Multi-index hashing
(Norouzi et al. 2012): the signature is turned round eight ways, and each time images that agree in its first bits meet
in a bucket. An image also looks into the buckets that it would be in if its window were shifted by a pixel, or if its
least certain bits were different (Lv et al. 2007).

Time and memory grow with the number of images alone: the bits of a bucket are so many that it holds less than one
image by chance; of a crowded bucket, only the nearest in the order of the whole signature are looked at; and each image
keeps a bounded number of candidates.

Legend: n images, c coefficients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from reprise.storage.progress import track
from stages.ingest.near.spectrum import COEFFICIENTS, coefficients

Sketches = Callable[[np.ndarray], np.ndarray]  # rows -> (rows, S, S) uint8

_TURNS = 8
_SHIFTS = ((0, 0), (0, 2), (2, 0), (2, 2), (2, -2))  # half pixels; the others follow when the pair swaps its places
_UNCERTAIN = 10  # bits of a signature that may be taken to be otherwise
_FLIPPED = 3  # of them at most in one bucket's bits
_DIFFERENT = 8  # bits in which candidates may differ; unlike images differ in about 26
_CROWD = 32  # images of one bucket that are looked at
_MOST = 4  # candidates of an image that differ from it in the same number of bits
_BLOCK = 8192  # images at a time
_ALL = np.uint64((1 << COEFFICIENTS) - 1)
# Neighbouring frequencies lie far apart in the signature, so that each bucket's bits are a mixture.
_ORDER = np.argsort(np.arange(COEFFICIENTS) * 20 % COEFFICIENTS)


def candidate_pairs(sketches: Sketches, rows: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Find pairs that deserve to be compared.

    Args:
        sketches: reads sketches.
        rows: (n,) images that can be recognised, increasing.
        groups: (n,) number of the group of each of them, -1 for none; images of one group are not compared.

    Returns:
        (pairs, 2) of `rows`, the lower first, sorted and without repetitions.
    """
    n = len(rows)
    if n < 2:
        return np.empty((0, 2), np.int64)
    signatures, uncertain = _signatures(sketches, rows)
    bits = int(np.clip(n.bit_length() + 2, 10, 22))
    kept = np.empty((0, 3), np.int64)  # image, candidate, bits in which their signatures differ
    for turn in track(range(_TURNS), "near-copies", unit="rounds"):
        by = round(turn * COEFFICIENTS / _TURNS)
        buckets = _Buckets(_turned(signatures[:, 0], by), bits)
        found = [kept]
        for start in range(0, n, _BLOCK):
            block = slice(start, start + _BLOCK)
            asked, weak = _turned(signatures[block], by), _turned(uncertain[block], by)
            met = []
            for shift in range(len(_SHIFTS)):
                for probe in _probes(asked[:, shift], weak[:, shift], bits):
                    i, j = buckets.look_up(probe)
                    i += start
                    different = np.bitwise_count(signatures[i, shift] ^ signatures[j, 0])
                    alike = (different <= _DIFFERENT) & (i != j) & ((groups[i] < 0) | (groups[i] != groups[j]))
                    met.append(np.stack([i[alike], j[alike], different[alike]], axis=1))
            found.append(_nearest(np.concatenate(met), n))
        kept = _nearest(np.concatenate(found), n)
    return rows[np.unique(np.sort(kept[:, :2], axis=1), axis=0)]


def _signatures(sketches: Sketches, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the signature for each shift and a mask of its least certain bits: both (n, shifts) uint64."""
    signs = np.empty((len(rows), len(_SHIFTS)), np.uint64)
    uncertain = np.empty_like(signs)
    for start in track(range(0, len(rows), _BLOCK), "signatures", unit="blocks"):
        block = slice(start, start + _BLOCK)
        images = sketches(rows[block])
        for shift, (down, right) in enumerate(_SHIFTS):
            values = coefficients(images, down, right)[:, _ORDER]
            signs[block, shift] = _packed(values > 0)
            weak = np.argsort(np.abs(values), axis=1, kind="stable")[:, :_UNCERTAIN]
            mask = np.zeros(values.shape, bool)
            np.put_along_axis(mask, weak, True, axis=1)
            uncertain[block, shift] = _packed(mask)
    return signs, uncertain


def _packed(bits: np.ndarray) -> np.ndarray:
    """Pack (n, c) booleans into (n,) uint64, the first one highest."""
    places = np.left_shift(np.uint64(1), np.arange(COEFFICIENTS - 1, -1, -1, dtype=np.uint64))
    return np.where(bits, places, np.uint64(0)).sum(axis=1, dtype=np.uint64)


def _turned(signatures: np.ndarray, by: int) -> np.ndarray:
    if by == 0:
        return signatures
    return ((signatures << np.uint64(by)) & _ALL) | (signatures >> np.uint64(COEFFICIENTS - by))


def _probes(asked: np.ndarray, weak: np.ndarray, bits: int) -> Iterator[np.ndarray]:
    """Yield the signatures to look up: as they are, and with up to three uncertain bits of the bucket's otherwise.

    Where an image has fewer such bits, a probe repeats another one.
    """
    left = weak >> np.uint64(COEFFICIENTS - bits)
    flips = []
    for _ in range(_FLIPPED):
        lowest = left & (~left + np.uint64(1))
        flips.append(lowest << np.uint64(COEFFICIENTS - bits))
        left ^= lowest
    for choice in range(1 << _FLIPPED):
        probe = asked
        for place, flip in enumerate(flips):
            if choice >> place & 1:
                probe = probe ^ flip
        yield probe


class _Buckets:
    """Images sorted by signature; a bucket is those with the same first bits."""

    def __init__(self, signatures: np.ndarray, bits: int) -> None:
        self._rest = np.uint64(COEFFICIENTS - bits)
        self._images = np.argsort(signatures, kind="stable")
        self._sorted = signatures[self._images]
        counts = np.bincount((self._sorted >> self._rest).astype(np.int64), minlength=1 << bits)
        self._starts = np.concatenate([[0], np.cumsum(counts)])

    def look_up(self, signatures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return places in `signatures`, and an image of the bucket of each: as many as there are, _CROWD at most."""
        bucket = (signatures >> self._rest).astype(np.int64)
        start, end = self._starts[bucket], self._starts[bucket + 1]
        crowded = np.flatnonzero(end - start > _CROWD)
        if len(crowded):
            near = np.searchsorted(self._sorted, signatures[crowded]) - _CROWD // 2
            start[crowded] = np.clip(near, start[crowded], end[crowded] - _CROWD)
            end[crowded] = start[crowded] + _CROWD
        counts = end - start
        places = np.repeat(np.arange(len(signatures)), counts)
        within = np.arange(len(places)) - np.repeat(np.cumsum(counts) - counts, counts)
        return places, self._images[start[places] + within]


def _nearest(pairs: np.ndarray, n: int) -> np.ndarray:
    """Keep of each image each candidate once, and _MOST at most of those that differ in the same number of bits.

    Of more, the next in the order of the images count. So many images of one picture are linked with each other: not
    all choose the same few, and not all of an image's candidates have its own signature.

    Args:
        pairs: (pairs, 3) of an image, a candidate, and the bits in which they differ.
        n: number of images.
    """
    ahead = (pairs[:, 1] - pairs[:, 0]) % n
    pairs = pairs[np.lexsort((pairs[:, 2], ahead, pairs[:, 0]))]
    first = np.ones(len(pairs), bool)
    first[1:] = (pairs[1:, :2] != pairs[:-1, :2]).any(axis=1)
    pairs = pairs[first]
    pairs = pairs[np.lexsort(((pairs[:, 1] - pairs[:, 0]) % n, pairs[:, 2], pairs[:, 0]))]
    level = pairs[:, 0] * (_DIFFERENT + 1) + pairs[:, 2]
    rank = np.arange(len(pairs)) - np.searchsorted(level, level)
    return pairs[rank < _MOST]
