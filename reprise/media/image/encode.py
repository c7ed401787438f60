"""Pixels -> bytes. An encoder for each place, because each needs another property; their bytes are keys or outputs.

- `uncompressed_png`: sources that make files from arrays; the keys are hashes of these bytes, so no library may change
  them.
- `lossless_png`: the shards, where images are stored that cannot stay as they are; `deep_png` for 16 bits. What PNG
  does not hold is written by tiff/write.py.
- `sheet_png`: contact sheets beside label sets.
- `smallest`: pictures inside the report's page, where bytes count.
- `through_jpeg`: images with the losses of JPEG, on which backbones are tested.
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np

from reprise.media.image.readers.pillow_file import RANGE_KEYWORD
from reprise.media.image.readers.refusal import PNG_SIGNATURE

_LARGEST_BLOCK = 65535  # bytes of one stored block of deflate (RFC 1951, 3.2.4)


def uncompressed_png(pixels: np.ndarray) -> bytes:
    """Write a PNG without compression: the same pixels give the same bytes with every version of every library.

    Args:
        pixels: (h, w) or (h, w, 3) uint8.
    """
    height, width = pixels.shape[:2]
    rows = np.ascontiguousarray(pixels).reshape(height, -1)
    # Every row begins with the number of its filter; 0 is none.
    raw = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1).tobytes()
    pieces = [raw[i : i + _LARGEST_BLOCK] for i in range(0, len(raw), _LARGEST_BLOCK)]
    # A stored block: a flag on the last one, its length, the complement of its length, the bytes as they are.
    blocks = b"".join(
        struct.pack("<BHH", i == len(pieces) - 1, len(piece), len(piece) ^ 0xFFFF) + piece
        for i, piece in enumerate(pieces)
    )
    stream = b"\x78\x01" + blocks + struct.pack(">I", zlib.adler32(raw))  # zlib's header and checksum (RFC 1950)
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if pixels.ndim == 2 else 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", stream), (b"IEND", b""))
    return PNG_SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def lossless_png(pixels: np.ndarray) -> bytes:
    """Compress (h, w, 1) or (h, w, 3) uint8 or uint16 as PNG, as shards store what they cannot keep."""
    import cv2

    shown = pixels[:, :, 0] if pixels.shape[2] == 1 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png", shown, [cv2.IMWRITE_PNG_COMPRESSION, 6])[1].tobytes()


def deep_png(values: np.ndarray, black_and_white: tuple[float, float]) -> bytes:
    """Compress (h, w, 1) or (h, w, 3) uint16 as PNG, with a text that says which values are black and white.

    Readers that do not know the text see the values as they are.
    """
    png = lossless_png(values)
    text = "{} {!r} {!r}".format(RANGE_KEYWORD, *black_and_white).replace(" ", "\0", 1).encode("ascii")
    chunk = struct.pack(">I", len(text)) + b"tEXt" + text + struct.pack(">I", zlib.crc32(b"tEXt" + text))
    after_header = png.index(b"IHDR") + 4 + 13 + 4  # its name, data and checksum
    return png[:after_header] + chunk + png[after_header:]


def sheet_png(pixels: np.ndarray) -> bytes:
    """Compress (h, w, 3) uint8 as PNG with Pillow."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=False)
    return buffer.getvalue()


def smallest(pixels: np.ndarray, lossless: bool) -> tuple[str, bytes]:
    """Encode a picture for the page in as few bytes as possible.

    Args:
        pixels: (h, w, 3) uint8 RGB.
        lossless: always PNG; otherwise JPEG where that is smaller.

    Returns:
        the media subtype (png or jpeg) and the bytes.
    """
    import cv2

    swapped = np.ascontiguousarray(pixels[:, :, ::-1])  # OpenCV's order of channels is BGR
    png = cv2.imencode(".png", swapped, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes()
    if lossless:
        return "png", png
    jpeg = cv2.imencode(".jpg", swapped, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
    return ("jpeg", jpeg) if len(jpeg) < len(png) else ("png", png)


def through_jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    """Encode as JPEG with Pillow and decode again.

    Args:
        pixels: (h, w, c) uint8; other bands than 1 or 3 are encoded one by one.
        quality: from 1 to 95, as Pillow counts.

    Returns:
        (h, w, c) uint8.
    """
    from PIL import Image

    def once(layer: np.ndarray) -> np.ndarray:
        buffer = io.BytesIO()
        Image.fromarray(layer).save(buffer, "JPEG", quality=quality)
        with Image.open(buffer) as image:
            return np.asarray(image)

    if pixels.shape[2] == 3:
        return once(pixels)
    return np.stack([once(np.ascontiguousarray(pixels[:, :, band])) for band in range(pixels.shape[2])], axis=2)
