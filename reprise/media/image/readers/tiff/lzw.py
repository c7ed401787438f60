"""LZW as TIFF 6.0 (section 13) defines it, decoded with a check that libtiff and imagecodecs do not make.

A damaged stream mostly decodes to something: of streams with four flipped bits, Pillow, OpenCV and tifffile accept
three quarters as images. But damage changes the lengths of the strings, so here the stream has to end, with its end
code, exactly where the strip is full.

Between two clear codes everything is one array operation. Entry 258 + j of the table is the string of code j and one
more byte, so it is a copy of what code j wrote and the byte behind it: code i writes a byte of its own (below 256), or
copies from where code j = code_i - 258 wrote. Following these references to the first byte gives the output.
"""

from __future__ import annotations

import numpy as np

_CLEAR, _END, _FIRST = 256, 257, 258
_MOST = 4096  # codes between two clear codes: the table is full, and encoders clear it before
# The table grows by one with each code but the first, and the width by one bit at 511, 1023 and 2047 entries.
_WIDTHS = np.array([9 + sum(_FIRST - 1 + n >= limit for limit in (511, 1023, 2047)) for n in range(_MOST)], np.int64)
_STARTS = np.concatenate([[0], np.cumsum(_WIDTHS)])


def decode_lzw(data: bytes, least: int, most: int) -> bytes:
    """Decode the stream of one strip or tile.

    Args:
        data: the stream.
        least, most: bytes that it may hold when decoded; they differ for a last strip, which some programs pad.

    Raises:
        ValueError: the stream is damaged or incomplete.
    """
    if data[:1] == b"\0" and data[1:2] and data[1] & 1:
        raise ValueError("LZW in the order of bits from before TIFF 5.0, which is not supported")
    # A few zero bytes behind the stream let every read be three bytes; the limit keeps them from being used.
    stream = np.frombuffer(data + bytes(4), np.uint8).astype(np.int64)
    limit, at, size = 8 * len(data), 0, 0
    parts: list[np.ndarray] = []
    while True:
        codes, used = _next_codes(stream, at, limit)
        stops = np.flatnonzero((codes == _CLEAR) | (codes == _END))
        if len(stops) == 0 and used < limit and len(codes) == _MOST:
            raise ValueError("LZW: the table overflows")
        run = codes[: stops[0]] if len(stops) else codes
        part = _expand(run, most - size)
        size += len(part)
        parts.append(part)
        if len(stops) == 0 or codes[stops[0]] == _END:
            break
        at += int(_STARTS[stops[0] + 1])
    if not least <= size <= most:
        raise ValueError(f"LZW: damaged, {size:,} bytes where {least:,} belong")
    return b"".join(part.tobytes() for part in parts)


def _next_codes(stream: np.ndarray, at: int, limit: int) -> tuple[np.ndarray, int]:
    """Cut out the codes from bit `at` on, as if no clear code came; also return the bit behind the last of them."""
    count = int(np.searchsorted(_STARTS[1:], limit - at, "right"))  # codes that fit into what is left
    bits = at + _STARTS[:count]
    byte = bits >> 3
    window = (stream[byte] << 16) | (stream[byte + 1] << 8) | stream[byte + 2]
    widths = _WIDTHS[:count]
    return (window >> (24 - widths - (bits & 7))) & ((1 << widths) - 1), at + int(_STARTS[count])


def _expand(codes: np.ndarray, room: int) -> np.ndarray:
    """Write out the strings of codes between two clear codes.

    Args:
        codes: (n,) without clear and end codes.
        room: bytes that they may take.

    Returns:
        (m,) uint8.

    Raises:
        ValueError: a code names an entry that the table does not have yet, or the strings take more room.
    """
    order = np.arange(len(codes))
    copied = codes >= _FIRST
    parent = np.where(copied, codes - _FIRST, order)
    if (copied & (parent >= order)).any():
        raise ValueError("LZW: damaged, a code is used before it is defined")
    lengths, above = copied.astype(np.int64), parent
    while (above != above[above]).any():  # twice as far along the references with each turn
        lengths = lengths + lengths[above]
        above = above[above]
    lengths += 1
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    if total > room:
        raise ValueError("LZW: damaged, more bytes than belong")
    starts = ends - lengths
    source = np.arange(total)
    source -= np.repeat(np.where(copied, starts - starts[parent], 0), lengths)
    while True:
        further = source[source]
        if np.array_equal(further, source):
            break
        source = further
    own = np.repeat(np.where(copied, 0, codes), lengths).astype(np.uint8)
    return own[source]
