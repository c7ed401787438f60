"""Writes what PNG does not hold, as shards store it: any number of bands of any type, compressed without loss."""

from __future__ import annotations

import struct
import zlib

import numpy as np

from reprise.media.image.readers.raster import Range
from reprise.media.image.readers.tiff.pages import DESCRIPTION, EXTRA_SAMPLES, NO_DATA, PHOTOMETRIC, RANGE_WORDS
from reprise.media.image.readers.tiff.segments import (
    BITS,
    COMPRESSION,
    HEIGHT,
    PLANAR,
    PREDICTOR,
    ROWS_PER_STRIP,
    SAMPLE_FORMAT,
    SAMPLES,
    STRIP_BYTES,
    STRIP_OFFSETS,
    WIDTH,
)

_SHORT, _LONG, _TEXT = 3, 4, 2  # types of tags
_NO_COMPRESSION, _DEFLATE, _LEVEL, _HORIZONTAL = 1, 8, 6, 2
_UNSPECIFIED = 0  # extra samples that are bands, not transparency
_STRIP = 1 << 20  # bytes of samples in a strip, about


def write_tiff(
    values: np.ndarray,
    black_and_white: Range | None = None,
    *,
    packed: bool = True,
    min_is_white: bool = False,
    no_data: float | None = None,
) -> bytes:
    """Write a TIFF of one page: the same values give the same bytes with one version of zlib.

    Args:
        values: (h, w, c) integers or floats.
        black_and_white: written into the description, for more than 8 bits; other readers see the values as they are.
        packed: compressed; otherwise the bytes depend on no library, as keys must not.
        min_is_white: said of the values, which stay as they are; only of one band.
        no_data: the value that stands for no data, as GDAL writes it.
    """
    height, width, bands = values.shape
    little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    integers = values.dtype.kind in "ui"
    if integers and packed:  # each sample as its difference from the one to the left, modulo 2^bits
        numbers = little.view(f"<u{values.dtype.itemsize}")
        little = np.concatenate([numbers[:, :1], numbers[:, 1:] - numbers[:, :-1]], axis=1)
    rows = min(height, max(1, _STRIP // max(1, width * bands * values.dtype.itemsize)))
    strips = [little[top : top + rows].tobytes() for top in range(0, height, rows)]
    if packed:
        strips = [zlib.compress(strip, _LEVEL) for strip in strips]
    text = "{} {!r} {!r}".format(RANGE_WORDS, *black_and_white).encode("ascii") + b"\0" if black_and_white else b""
    entries: list[tuple[int, int, list[int] | bytes]] = [
        (WIDTH, _LONG, [width]),
        (HEIGHT, _LONG, [height]),
        (BITS, _SHORT, [8 * values.dtype.itemsize] * bands),
        (COMPRESSION, _SHORT, [_DEFLATE if packed else _NO_COMPRESSION]),
        (PHOTOMETRIC, _SHORT, [2 if bands == 3 else 0 if min_is_white else 1]),
        *([(DESCRIPTION, _TEXT, text)] if text else []),
        (STRIP_OFFSETS, _LONG, [0] * len(strips)),
        (SAMPLES, _SHORT, [bands]),
        (ROWS_PER_STRIP, _LONG, [rows]),
        (STRIP_BYTES, _LONG, [len(strip) for strip in strips]),
        (PLANAR, _SHORT, [1]),
        (PREDICTOR, _SHORT, [_HORIZONTAL if integers and packed else 1]),
        *([(EXTRA_SAMPLES, _SHORT, [_UNSPECIFIED] * (bands - 1))] if bands not in (1, 3) else []),
        (SAMPLE_FORMAT, _SHORT, ["uif".index(values.dtype.kind) + 1] * bands),
        *([(NO_DATA, _TEXT, f"{no_data:g}".encode() + b"\0")] if no_data is not None else []),
    ]
    header = 8 + 2 + 12 * len(entries) + 4
    first = header + sum(size for _, kind, value in entries if (size := _padded(kind, value)) > 4)
    ends = np.cumsum([len(strip) for strip in strips])
    offsets = [first, *(first + ends[:-1]).tolist()]
    entries = [(tag, kind, offsets if tag == STRIP_OFFSETS else value) for tag, kind, value in entries]
    directory, beyond = b"", b""
    for tag, kind, value in entries:
        body = (
            value if isinstance(value, bytes) else struct.pack(f"<{len(value)}{'H' if kind == _SHORT else 'I'}", *value)
        )
        directory += struct.pack("<HHI", tag, kind, len(value))
        if len(body) <= 4:
            directory += body.ljust(4, b"\0")
        else:
            directory += struct.pack("<I", header + len(beyond))
            beyond += body.ljust(_padded(kind, value), b"\0")
    return b"".join((b"II*\0", struct.pack("<IH", 8, len(entries)), directory, bytes(4), beyond, *strips))


def _padded(kind: int, value: list[int] | bytes) -> int:
    """Bytes that the values of a tag take, rounded up to an even number."""
    size = len(value) * {_SHORT: 2, _LONG: 4, _TEXT: 1}[kind]
    return size + size % 2
