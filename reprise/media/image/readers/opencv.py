"""What OpenCV decodes, for plain files and for colours of more than 8 bits."""

from __future__ import annotations

import struct

import numpy as np

from reprise.media.image.readers.refusal import JPEG_SIGNATURE, PNG_SIGNATURE


def decode_plain(data: bytes) -> np.ndarray | None:
    """Decode with OpenCV: (h, w) grey or (h, w, 3) RGB uint8, or None where OpenCV shows anything else."""
    if data[:2] in (b"II", b"MM"):  # TIFF is never plain, and OpenCV takes some bands for others
        return None
    if data.startswith(PNG_SIGNATURE) and not chunks_fit(data):  # OpenCV 5.0 searches such a file for minutes
        return None
    pixels = decode_unchanged(data)
    if pixels is None or pixels.dtype != np.uint8:
        return None
    return pixels if pixels.ndim == 2 or pixels.shape[2] == 3 else None


def decode_reduced(data: bytes, by: int) -> np.ndarray | None:
    """Decode a JPEG file at a half, a quarter or an eighth of its sides: (h, w, 3) RGB uint8; None for other formats.

    The decoder averages over squares of 2, 4 or 8 pixels as it transforms blocks back, so fewer numbers are computed.

    Args:
        data: the encoded file.
        by: 2, 4 or 8.
    """
    import cv2

    if not data.startswith(JPEG_SIGNATURE):
        return None
    flag = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}[by]
    pixels = _decoded(data, flag | cv2.IMREAD_IGNORE_ORIENTATION)
    return None if pixels is None else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def decode_unchanged(data: bytes) -> np.ndarray | None:
    """Decode as stored: (h, w), (h, w, 3) RGB or (h, w, 4) RGBA of 8 or 16 bits, not turned; None without success.

    Raises:
        MemoryError: there is too little memory, which says nothing about the file.
    """
    import cv2

    pixels = _decoded(data, cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.ndim == 2:
        return pixels
    if pixels.shape[2] == 1:
        return pixels[:, :, 0]
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)


def _decoded(data: bytes, flags: int) -> np.ndarray | None:
    import cv2

    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:  # of the machine, not of the file
            raise MemoryError from error
        return None


def chunks_fit(png: bytes) -> bool:
    """Return whether the chunks of a PNG lie inside the file, up to its IEND."""
    at = len(PNG_SIGNATURE)
    while at + 12 <= len(png):  # a chunk: length, name, data, checksum; all but the data take 12 bytes
        length, name = struct.unpack_from(">I4s", png, at)
        at += 12 + length
        if name == b"IEND":
            return at <= len(png)
    return False


def limit_threads() -> None:
    """Keep OpenCV to one thread in this process: Reprise runs several images side by side instead."""
    import cv2

    cv2.setNumThreads(1)
