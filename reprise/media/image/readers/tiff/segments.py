"""From the strips or tiles of a page to its samples: compression, bit order, predictor, depth, byte order, planes.

Each segment has to hold exactly as many bytes as its place needs; only a last strip may be padded to the height of the
others. Shapes: h rows, w columns, s samples a pixel.
"""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from reprise.media.image.readers.refusal import Truncated, Unsupported
from reprise.media.image.readers.tiff.directory import Directory
from reprise.media.image.readers.tiff.lzw import decode_lzw

WIDTH, HEIGHT, BITS, COMPRESSION, FILL_ORDER = 256, 257, 258, 259, 266
STRIP_OFFSETS, SAMPLES, ROWS_PER_STRIP, STRIP_BYTES, PLANAR = 273, 277, 278, 279, 284
PREDICTOR, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_BYTES, SAMPLE_FORMAT = 317, 322, 323, 324, 325, 339
UNSIGNED, SIGNED, FLOAT, UNDEFINED = 1, 2, 3, 4  # values of SAMPLE_FORMAT
_BLOCK = 1 << 20  # samples that are unpacked at once: packed ones take a byte a bit meanwhile
_REVERSED = bytes(int(f"{n:08b}"[::-1], 2) for n in range(256))


@dataclass(frozen=True)
class Samples:
    """What each sample of a page is.

    Attributes:
        bits: of a sample, as the file declares them.
        code: UNSIGNED, SIGNED or FLOAT.
        count: s, samples a pixel.
    """

    bits: int
    code: int
    count: int

    @property
    def type(self) -> np.dtype:
        """The smallest of numpy's types that holds a sample."""
        width = next(n for n in (8, 16, 32, 64) if n >= self.bits)
        return np.dtype(f"{'uif'[self.code - 1]}{width // 8}")


def sample_type(page: Directory) -> Samples:
    """Read what the samples are.

    Raises:
        Unsupported: samples of different depth or type, complex numbers, or a depth that numpy lacks.
    """
    count = page.integer(SAMPLES, 1)
    bits, codes = set(page.numbers(BITS, (1,)).tolist()), set(page.numbers(SAMPLE_FORMAT, (UNSIGNED,)).tolist())
    if len(bits) != 1 or len(codes) != 1 or count < 1:
        raise Unsupported(f"samples of {sorted(bits)} bits and sample formats {sorted(codes)} in one image")
    depth, code = int(bits.pop()), int(codes.pop())
    code = UNSIGNED if code == UNDEFINED else code
    sound = {UNSIGNED: range(1, 65), SIGNED: (8, 16, 32, 64), FLOAT: (16, 32, 64)}
    if depth not in sound.get(code, ()):
        raise Unsupported(f"samples of {depth} bits and sample format {code}")
    return Samples(depth, code, count)


def read_samples(page: Directory, data: bytes) -> np.ndarray:
    """Read all samples of a page: (h, w, s) in the native byte order.

    The caller has checked that width x height x s is a size it can hold.

    Raises:
        Truncated: a segment is missing or too short.
        Unsupported: a compression or predictor that is not read here.
        ValueError: damage.
    """
    samples = sample_type(page)
    width, height = page.integer(WIDTH), page.integer(HEIGHT)
    tiled = TILE_OFFSETS in page.tags
    across = page.integer(TILE_WIDTH) if tiled else width
    down = page.integer(TILE_HEIGHT) if tiled else min(page.integer(ROWS_PER_STRIP, height) or height, height)
    if across < 1 or down < 1:
        raise ValueError("tiles without pixels")
    offsets = page.numbers(TILE_OFFSETS if tiled else STRIP_OFFSETS).tolist()
    lengths = page.numbers(TILE_BYTES if tiled else STRIP_BYTES).tolist()
    planes, depth = (samples.count, 1) if page.integer(PLANAR, 1) == 2 else (1, samples.count)
    rows, columns = -(-height // down), -(-width // across)
    needed = planes * rows * columns
    if len(offsets) < needed or len(lengths) < needed:
        raise Truncated(f"{min(len(offsets), len(lengths)):,} of {needed:,} strips or tiles")
    if across * down > max(64 * width * height, 1 << 22):  # the last of few tiles may be mostly empty, not a bomb
        raise ValueError(f"tiles of {across} x {down} pixels in an image of {width} x {height}")
    unpack = _unpacker(page, samples, depth)
    decompress = _decompressor(page.integer(COMPRESSION, 1))
    reverse = page.integer(FILL_ORDER, 1) == 2
    result = np.empty((height, width, samples.count), samples.type)
    row_bytes = -(-across * depth * samples.bits // 8)
    for index in range(needed):
        plane, place = divmod(index, rows * columns)
        top, left = place // columns * down, place % columns * across
        wanted = down if tiled else min(down, height - top)
        packed = data[offsets[index] : offsets[index] + lengths[index]]
        if len(packed) != lengths[index]:
            raise Truncated("a strip or tile lies beyond the end of the file")
        raw = decompress(packed.translate(_REVERSED) if reverse else packed, wanted * row_bytes, down * row_bytes)
        block = unpack(raw[: wanted * row_bytes], wanted, across)
        kept = block[: height - top, : width - left]
        result[top : top + down, left : left + across, plane : plane + depth] = kept
    return result


def _unpacker(page: Directory, samples: Samples, depth: int) -> Callable[[bytes, int, int], np.ndarray]:
    """Make the function that turns the bytes of a segment into (rows, columns, depth) samples."""
    predictor, kind = page.integer(PREDICTOR, 1), samples.type.newbyteorder("<" if page.order == "<" else ">")
    whole = samples.bits in (8, 16, 32, 64)
    if predictor not in (1, 2, 3) or (predictor == 2 and not whole) or (predictor == 3 and samples.code != FLOAT):
        raise Unsupported(f"predictor {predictor} with samples of {samples.bits} bits")

    def unpack(raw: bytes, rows: int, columns: int) -> np.ndarray:
        if predictor == 3:
            return _floats_from_planes(raw, rows, columns, depth, samples.type)
        if not whole:
            return _from_bits(raw, rows, columns * depth, samples).reshape(rows, columns, depth)
        values = np.frombuffer(raw, kind).astype(samples.type).reshape(rows, columns, depth)
        if predictor == 2:  # each sample is stored as its difference from the one to the left, modulo 2^bits
            integers = values.view(f"u{samples.type.itemsize}")
            return np.cumsum(integers, axis=1, dtype=integers.dtype).view(samples.type)
        return values

    return unpack


def _floats_from_planes(raw: bytes, rows: int, columns: int, depth: int, kind: np.dtype) -> np.ndarray:
    """Undo predictor 3: a row holds all first bytes of its numbers, then all second ones, as differences."""
    differences = np.frombuffer(raw, np.uint8).reshape(rows, -1, depth)
    planes = np.cumsum(differences, axis=1, dtype=np.uint8).reshape(rows, kind.itemsize, columns * depth)
    numbers = np.ascontiguousarray(planes.transpose(0, 2, 1)).view(kind.newbyteorder(">"))
    return numbers.astype(kind).reshape(rows, columns, depth)


def _from_bits(raw: bytes, rows: int, count: int, samples: Samples) -> np.ndarray:
    """Unpack samples that share bytes, the highest bit first; each row begins with a byte of its own."""
    packed = np.frombuffer(raw, np.uint8).reshape(rows, -1)
    values = np.empty((rows, count), samples.type)
    step = max(1, _BLOCK // max(1, count))
    for top in range(0, rows, step):
        bits = np.unpackbits(packed[top : top + step], axis=1, count=count * samples.bits)
        bits = bits.reshape(-1, count, samples.bits)
        block = np.zeros(bits.shape[:2], samples.type)
        for place in range(samples.bits):
            block = (block << 1) | bits[:, :, place]
        values[top : top + step] = block
    return values


def _decompressor(compression: int) -> Callable[[bytes, int, int], bytes]:
    """Return the function (packed, least, most) -> bytes of one segment; `most` is the size of a full one."""
    known = {1: _plain, 5: decode_lzw, 8: _deflate, 32946: _deflate, 32773: _packbits, 34925: _lzma, 50000: _zstandard}
    if compression not in known:
        raise Unsupported(f"compression {compression} is not supported")
    return known[compression]


def _plain(packed: bytes, least: int, most: int) -> bytes:
    if len(packed) < least:
        raise Truncated(f"{len(packed):,} bytes where {least:,} belong")
    return packed


def _deflate(packed: bytes, least: int, most: int) -> bytes:
    stream = zlib.decompressobj()
    return _whole(stream.decompress(packed, most + 1), stream.eof, least, most)


def _lzma(packed: bytes, least: int, most: int) -> bytes:
    stream = lzma.LZMADecompressor(memlimit=1 << 28)
    return _whole(stream.decompress(packed, most + 1), stream.eof, least, most)


def _zstandard(packed: bytes, least: int, most: int) -> bytes:
    import pyarrow as pa

    for size in {least: None, most: None}:
        try:
            return pa.Codec("zstd").decompress(packed, size, asbytes=True)
        except (pa.ArrowException, OSError):
            continue
    raise ValueError(f"Zstandard: damaged, or not the {least:,} bytes that belong")


def _whole(raw: bytes, ended: bool, least: int, most: int) -> bytes:
    """Refuse a stream that did not end, or not where it should; its checksum was compared at its end."""
    if not ended and len(raw) <= most:
        raise Truncated("a compressed strip or tile ends too early")
    if not least <= len(raw) <= most:
        raise ValueError(f"damaged, {len(raw):,} bytes where {least:,} belong")
    return raw


def _packbits(packed: bytes, least: int, most: int) -> bytes:
    """Decode PackBits: n + 1 bytes as they are, or one byte 257 - n times; 128 means nothing."""
    parts: list[bytes] = []
    at = size = 0
    while at < len(packed) and size < most:
        n = packed[at]
        if n < 128:
            part = packed[at + 1 : at + 2 + n]
            at += 2 + n
            if len(part) != n + 1:
                raise Truncated("PackBits ends too early")
        else:
            part = packed[at + 1 : at + 2] * (257 - n) if n > 128 else b""
            at += 2 if n > 128 else 1
        size += len(part)
        parts.append(part)
    if size < least:
        raise Truncated(f"PackBits: {size:,} bytes where {least:,} belong")
    if size > most or len(packed) - at > 1:  # one byte of padding is usual
        raise ValueError(f"PackBits: damaged, more than the {least:,} bytes that belong")
    return b"".join(parts)
