"""Bytes -> pixels, by one set of rules (docs/reference/data-rules.md) for every stage.

EXIF orientation is applied; transparency is laid over white; palettes become RGB; 16-bit grey is divided by 257; CMYK
is converted by Pillow; of several frames or pages the first counts. With `channels=1` the result is the luma of ITU-R
BT.601, with `channels=3` grey is repeated.

An image is *plain* when these rules have nothing to do: 8-bit grey or RGB, upright, one frame, JPEG, PNG or WebP, and
OpenCV and Pillow decode the same pixels. Plain bytes are decoded by OpenCV, the faster of the two.
"""

from __future__ import annotations

import io
import struct
import warnings
from typing import Any

import numpy as np

from reprise.config.errors import ImageRefused
from reprise.media.image.refusal import FIX_FILE, damage, decoder_errors, unidentified
from reprise.media.image.transform import as_channels

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
MAX_PIXELS = 50_000_000
UPRIGHT = 1  # EXIF orientation
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _GREY_ALPHA, _GREY_16 = ("1", "L"), ("LA", "La"), ("I;16", "I;16L", "I;16B", "I;16N")  # Pillow's modes
_COLOUR, _COLOUR_ALPHA = ("RGB", "CMYK", "YCbCr", "RGBX", "P"), ("RGBA", "RGBa", "PA")
_ORIENTATION = 0x0112  # EXIF tag
_TRANSPOSITIONS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # EXIF orientation -> PIL.Image.Transpose
_SUBFILE, _DNG, _REDUCED = 254, 50706, 1  # TIFF tags, and the bit for "a smaller version of another page"


def decode(data: bytes, where: str, channels: int = 3, max_pixels: int = MAX_PIXELS, plain: bool = False) -> np.ndarray:
    """Decode an image by the rules above.

    Args:
        data: the encoded file.
        where: its name, for messages.
        channels: 1 or 3.
        max_pixels: largest width x height.
        plain: whether the bytes are known to be plain (everything in shards is) and OpenCV may decode them.

    Returns:
        (height, width, channels) uint8.

    Raises:
        ImageRefused: the bytes cannot be decoded.
    """
    pixels = decode_plain(data) if plain else None
    if pixels is None:
        image = open_image(data, where, max_pixels)
        with decoder_errors(where, str(image.format), data):
            pixels = decode_by_rules(image, where)
    return as_channels(pixels, channels)


def open_image(data: bytes, where: str, max_pixels: int) -> Any:
    """Read the header of an image and return it as a Pillow image whose pixels are not decoded yet.

    Args:
        data: the encoded file.
        where: its name, for messages.
        max_pixels: largest width x height that the header may promise.

    Raises:
        ImageRefused: empty, no image, damaged, too large, or a file whose first page is only a preview.
    """
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise ImageRefused("empty", where=where, found="0 bytes", fix=FIX_FILE)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ImageRefused(
            "too_many_pixels", where=where, found=str(error).rstrip("."), fix="Scale it down (source.max_pixels)."
        ) from error
    except UnidentifiedImageError as error:
        raise unidentified(data, where) from error
    except Exception as error:  # Pillow's parsers raise anything on hostile headers
        message = str(error) or type(error).__name__
        raise ImageRefused(damage(message, data), where=where, found=message, fix=FIX_FILE) from error
    width, height = image.size
    if width * height > max_pixels:
        raise ImageRefused(
            "too_many_pixels",
            where=where,
            found=f"{width} x {height} pixels",
            fix=f"The limit is {max_pixels} pixels (source.max_pixels).",
        )
    if width < 1 or height < 1:
        raise ImageRefused("undecodable", where=where, found=f"{width} x {height} pixels", fix=FIX_FILE)
    with decoder_errors(where, str(image.format), data):
        preview = image.format == "TIFF" and _is_preview(image)
    if preview:
        raise ImageRefused(
            "not_an_image",
            where=where,
            found="a camera's raw file, or a TIFF that begins with a small version of its image",
            fix="Convert it to JPEG, PNG or TIFF.",
        )
    return image


def _is_preview(image: Any) -> bool:
    """Return whether the first page of a TIFF is not the picture itself: of a raw file, Pillow reads the thumbnail."""
    subfile = image.tag_v2.get(_SUBFILE, 0)
    return _DNG in image.tag_v2 or (isinstance(subfile, int) and bool(subfile & _REDUCED))


def orientation(image: Any) -> int:
    """Return the EXIF orientation of a loaded Pillow image; 1 is upright."""
    return image.getexif().get(_ORIENTATION, UPRIGHT)


def decode_by_rules(image: Any, where: str) -> np.ndarray:
    """Decode all pixels of an opened image by the rules: (h, w) grey or (h, w, 3) RGB uint8.

    Raises:
        ImageRefused: a pixel type without a stated scale.
    """
    from PIL import Image

    image.load()
    # Read the orientation only now: Pillow turns TIFFs upright by itself while it loads them.
    turn = _TRANSPOSITIONS.get(orientation(image))
    mode = image.mode
    transparent = mode in (*_GREY_ALPHA, *_COLOUR_ALPHA) or "transparency" in image.info
    if mode in _GREY_16:
        values = np.asarray(image if turn is None else image.transpose(Image.Transpose(turn))).astype(np.uint32)
        return ((values + 128) // 257).astype(np.uint8)  # 257 = 65535 / 255, rounded to the nearest
    if mode not in (*_GREY, *_GREY_ALPHA, *_COLOUR, *_COLOUR_ALPHA):
        raise ImageRefused(
            "unsupported_depth", where=where, found=f"pixel type {mode}", fix="Convert it to 8 or 16 bits a channel."
        )
    grey = mode in (*_GREY, *_GREY_ALPHA)
    if transparent:
        layer = image.convert("RGBA")
        over_white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        over_white.alpha_composite(layer)
        result = over_white.convert("RGB")
        result = result.getchannel("R") if grey else result
    else:
        result = image.convert("L" if grey else "RGB")
    return np.array(result if turn is None else result.transpose(Image.Transpose(turn)), dtype=np.uint8)


def decode_plain(data: bytes) -> np.ndarray | None:
    """Decode with OpenCV: (h, w) grey or (h, w, 3) RGB uint8, or None where OpenCV shows anything else."""
    import cv2

    if data.startswith(PNG_SIGNATURE) and not _chunks_fit(data):  # OpenCV 5.0 searches such a file for minutes
        return None
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    if pixels is None or pixels.dtype != np.uint8:
        return None
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.ndim == 2:
        return pixels
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB) if pixels.shape[2] == 3 else None


def _chunks_fit(png: bytes) -> bool:
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
