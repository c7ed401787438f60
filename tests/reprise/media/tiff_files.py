"""TIFF files written byte by byte, tag by tag: nothing here is shared with the code that reads or writes TIFF."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, DESCRIPTION = 256, 257, 258, 259, 262, 270
OFFSETS, ORIENTATION, SAMPLES, ROWS, LENGTHS, MAX_VALUE = 273, 274, 277, 278, 279, 281
PLANAR, PREDICTOR, COLOUR_MAP, EXTRA, FORMAT, NO_DATA = 284, 317, 320, 338, 339, 42113
NEW_SUBFILE, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_LENGTHS = 254, 322, 323, 324, 325

Value = int | Sequence[int] | bytes


def page_tags(values: np.ndarray) -> dict[int, Value]:
    """Tags of (h, w) or (h, w, c) values in whole bytes, uncompressed in one strip."""
    bands = 1 if values.ndim == 2 else values.shape[2]
    return {
        WIDTH: values.shape[1],
        HEIGHT: values.shape[0],
        BITS: [8 * values.dtype.itemsize] * bands,
        COMPRESSION: 1,
        PHOTOMETRIC: 2 if bands == 3 else 1,
        SAMPLES: bands,
        ROWS: values.shape[0],
        FORMAT: ["uif".index(values.dtype.kind) + 1] * bands,
    }


def tiff(pages: Sequence[tuple[dict[int, Value], Sequence[bytes]]], order: str = "<", big: bool = False) -> bytes:
    """Write pages, each of tags and strips (or tiles, where the tags give the sides of tiles).

    Args:
        pages: tags without offsets and lengths of the strips, and the strips' bytes.
        order: "<" or ">".
        big: BigTIFF.
    """
    word, size = ("Q", 8) if big else ("I", 4)
    mark = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
    head = mark + (struct.pack(order + "HHQ", 8, 0, 16) if big else struct.pack(order + "I", 8))
    body = head
    for number, (given, strips) in enumerate(pages):
        tags = dict(given)
        tiled = TILE_WIDTH in tags
        start = len(body)
        where = TILE_OFFSETS if tiled else OFFSETS
        tags[where], tags[TILE_LENGTHS if tiled else LENGTHS] = [0] * len(strips), [len(s) for s in strips]
        beyond = start + (8 + 20 * len(tags) + 8 if big else 2 + 12 * len(tags) + 4)
        spare = sum(len(_packed(v, order, t)[2]) for t, v in tags.items() if len(_packed(v, order, t)[2]) > size)
        first = beyond + spare
        tags[where] = [first + sum(len(s) for s in strips[:i]) for i in range(len(strips))]
        entries, values = b"", b""
        for tag in sorted(tags):
            kind, count, packed = _packed(tags[tag], order, tag)
            entries += struct.pack(f"{order}HH{word}", tag, kind, count)
            if len(packed) <= size:
                entries += packed.ljust(size, b"\0")
            else:
                entries += struct.pack(order + word, beyond + len(values))
                values += packed
        end = first + sum(map(len, strips))
        following = end if number + 1 < len(pages) else 0
        body += struct.pack(order + ("Q" if big else "H"), len(tags)) + entries + struct.pack(order + word, following)
        body += values + b"".join(strips)
    return body


def simple(values: np.ndarray, tags: dict[int, Value] | None = None, order: str = "<") -> bytes:
    """One page of one uncompressed strip; `tags` replace those that follow from the values."""
    raw = values.astype(values.dtype.newbyteorder(order)).tobytes()
    return tiff([(page_tags(values) | (tags or {}), [raw])], order)


def deflated(values: np.ndarray) -> tuple[dict[int, Value], list[bytes]]:
    """A page with a strip for each row."""
    return page_tags(values) | {COMPRESSION: 8, ROWS: 1}, [zlib.compress(row.tobytes()) for row in values]


def packed_bits(values: np.ndarray, bits: int) -> bytes:
    """Samples of (h, w), the highest bit first; each row begins with a byte of its own."""
    rows = []
    for row in values.tolist():
        text = "".join(f"{value:0{bits}b}" for value in row)
        text += "0" * (-len(text) % 8)
        rows.append(int(text, 2).to_bytes(len(text) // 8, "big"))
    return b"".join(rows)


def lzw(data: bytes) -> bytes:
    """Compress as TIFF 6.0, section 13, describes it, in a plain loop."""
    codes: list[tuple[int, int]] = []
    table: dict[bytes, int] = {}
    width, word = 9, b""

    def clear() -> None:
        table.clear()
        table.update({bytes([i]): i for i in range(256)})

    clear()
    codes.append((256, 9))
    for byte in data:
        longer = word + bytes([byte])
        if longer in table:
            word = longer
            continue
        codes.append((table[word], width))
        table[longer] = len(table) + 2
        word = bytes([byte])
        latest = len(table) + 1
        width = 9 + (latest >= 511) + (latest >= 1023) + (latest >= 2047)
        if latest == 4094:
            codes.append((256, 12))
            clear()
            width = 9
    if word:
        codes.append((table[word], width))
        latest = len(table) + 2
        width = 9 + (latest >= 511) + (latest >= 1023) + (latest >= 2047)
    codes.append((257, width))
    text = "".join(f"{code:0{bits}b}" for code, bits in codes)
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


def _packed(value: Value, order: str, tag: int) -> tuple[int, int, bytes]:
    """Type, count and bytes of a tag's value."""
    if isinstance(value, bytes):
        return (2, len(value), value) if tag in (DESCRIPTION, NO_DATA) else (7, len(value), value)
    numbers = [value] if isinstance(value, int) else list(value)
    long = tag in (OFFSETS, LENGTHS, TILE_OFFSETS, TILE_LENGTHS, WIDTH, HEIGHT)
    return (
        (4, len(numbers), struct.pack(f"{order}{len(numbers)}I", *numbers))
        if long
        else (
            3,
            len(numbers),
            struct.pack(f"{order}{len(numbers)}H", *numbers),
        )
    )
