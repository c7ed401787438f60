"""Untrusted bytes -> what they are, or the reason why they are refused."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from reprise.config.errors import ImageRefused
from reprise.media.image.decode import (
    MAX_PIXELS,
    UPRIGHT,
    decode_by_rules,
    decode_plain,
    open_image,
    orientation,
)
from reprise.media.image.refusal import decoder_errors

PLAIN_FORMATS = ("JPEG", "PNG", "WEBP")


@dataclass(frozen=True)
class Inspection:
    """What decoding the whole file showed; the fields are the manifest's columns (fields.py).

    Attributes:
        width: pixels, after the image is turned upright.
        height: pixels, likewise.
        channels: 1 (grey) or 3 (colour), after the rules.
        format: one of decode.FORMATS, by content and not by name.
        plain: whether the bytes need none of the rules, so that any decoder shows the same pixels.
        pixels: digest of the decoded pixels; see `pixel_digest`.
    """

    width: int
    height: int
    channels: int
    format: str
    plain: bool
    pixels: str


def inspect(data: bytes, where: str, max_pixels: int = MAX_PIXELS, min_side: int = 1) -> Inspection:
    """Decode an image completely and describe it.

    Args:
        data: the encoded file.
        where: its name, for messages.
        max_pixels: largest width x height; larger images are refused by their header, before a pixel is decoded.
        min_side: smallest side in pixels.

    Raises:
        ImageRefused: its `what` is the quarantine's reason code: empty, not_an_image, truncated, undecodable,
            too_many_pixels, too_small or unsupported_depth.
    """
    image = open_image(data, where, max_pixels)
    # MPO is a JPEG with further pictures behind the first: phones write it, and only the first counts here.
    file_format = "JPEG" if image.format == "MPO" else str(image.format)
    with decoder_errors(where, file_format, data):
        frames = int(getattr(image, "n_frames", 1))
        pixels = decode_by_rules(image, where)
    height, width = pixels.shape[:2]
    if min(height, width) < min_side:
        raise ImageRefused(
            "too_small",
            where=where,
            found=f"{width} x {height} pixels",
            fix=f"Images need at least {min_side} pixels a side (source.min_side).",
        )
    plain = file_format in PLAIN_FORMATS and image.format != "MPO" and frames == 1 and _needs_no_rule(image, data)
    if plain:
        # The header promises that both decoders agree; the pixels are what counts.
        fast = decode_plain(data)
        plain = fast is not None and fast.shape == pixels.shape and bool(np.array_equal(fast, pixels))
    return Inspection(width, height, 1 if pixels.ndim == 2 else 3, file_format, plain, pixel_digest(pixels))


def pixel_digest(pixels: np.ndarray) -> str:
    """Compute the SHA-256 of decoded pixels and their shape, in hexadecimal.

    It is the same for every file that shows the same picture, whatever its format, compression, orientation or
    metadata. Grey that is stored as equal colours counts as grey.

    Args:
        pixels: (h, w) grey or (h, w, c).
    """
    if pixels.ndim == 3 and bool((pixels == pixels[:, :, :1]).all()):
        pixels = pixels[:, :, 0]
    digest = hashlib.sha256(f"{pixels.dtype.str} {pixels.shape}\n".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def _needs_no_rule(image: Any, data: bytes) -> bool:
    # Byte 24 of a PNG is its bit depth: Pillow reports 16-bit colour as RGB after it has dropped the lower bits.
    eight_bits = image.format != "PNG" or data[24:25] == b"\x08"
    upright = orientation(image) == UPRIGHT
    return upright and eight_bits and image.mode in ("L", "RGB") and "transparency" not in image.info
