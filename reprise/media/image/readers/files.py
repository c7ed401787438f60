"""Untrusted bytes -> an opened file: which reader takes them, and what is refused before a pixel is decoded."""

from __future__ import annotations

import io
import warnings

from reprise.config.errors import ImageRefused
from reprise.media.image.readers.raster import Opened, Raster
from reprise.media.image.readers.refusal import FIX_FILE, damage, decoder_errors, unidentified

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "HEIC")
_BY_PILLOW = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "AVIF")


def open_file(data: bytes, where: str, max_pixels: int | None) -> Opened:
    """Read the headers of an image, without decoding pixels.

    Args:
        data: the encoded file.
        where: its name, for messages.
        max_pixels: largest width x height that the first page may promise; None for files that were inspected.

    Raises:
        ImageRefused: empty, no image, damaged, too large, or a file whose first page is only a preview.
    """
    from reprise.media.image.readers.heif import HeifFile, is_heif
    from reprise.media.image.readers.tiff.directory import SIGNATURES
    from reprise.media.image.readers.tiff.pages import TiffFile

    if not data:
        raise ImageRefused("empty", where=where, found="0 bytes", fix=FIX_FILE)
    if data[:4] in SIGNATURES:
        with decoder_errors(where, "TIFF", data):
            opened: Opened = TiffFile(data)
    elif is_heif(data):
        with decoder_errors(where, "HEIC", data):
            opened = HeifFile(data)
    else:
        opened = _open_with_pillow(data, where)
    if max_pixels is not None:
        check_size(opened, 0, where, max_pixels, data)
    return opened


def read_page(opened: Opened, page: int, where: str, data: bytes) -> Raster:
    """Decode one page of an opened file.

    Args:
        opened: the file.
        page: from 0.
        where: its name, for messages.
        data: the encoded file, for messages.

    Raises:
        ImageRefused: the page cannot be decoded.
    """
    with decoder_errors(where, opened.format, data):
        return opened.read(page)


def check_size(opened: Opened, page: int, where: str, max_pixels: int, data: bytes) -> int:
    """Refuse a page whose header promises too many pixels, or none; return the bytes that it takes when it is read.

    Args:
        opened: the file.
        page: from 0.
        where: its name, for messages.
        max_pixels: largest width x height.
        data: the encoded file, for messages.

    Raises:
        ImageRefused: too_many_pixels or undecodable.
    """
    with decoder_errors(where, opened.format, data):
        width, height, size = opened.size(page)
    if width * height > max_pixels:
        raise too_many_pixels(width, height, where, max_pixels)
    if width < 1 or height < 1:
        raise ImageRefused("undecodable", where=where, found=f"{width} x {height} pixels", fix=FIX_FILE)
    return size


def too_many_pixels(width: int, height: int, where: str, max_pixels: int) -> ImageRefused:
    """Make the refusal of an image that is too large."""
    return ImageRefused(
        "too_many_pixels",
        where=where,
        found=f"{width} x {height} pixels",
        fix=f"The limit is {max_pixels} pixels (source.max_pixels).",
    )


def _open_with_pillow(data: bytes, where: str) -> Opened:
    from PIL import Image, UnidentifiedImageError

    from reprise.media.image.readers.pillow_file import PillowFile

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=_BY_PILLOW)
    except Image.DecompressionBombError as error:
        raise ImageRefused(
            "too_many_pixels", where=where, found=str(error).rstrip("."), fix="Scale it down (source.max_pixels)."
        ) from error
    except UnidentifiedImageError as error:
        raise unidentified(data, where) from error
    except Exception as error:  # Pillow's parsers raise anything on hostile headers
        message = str(error) or type(error).__name__
        raise ImageRefused(damage(message, data), where=where, found=message, fix=FIX_FILE) from error
    with decoder_errors(where, str(image.format), data):
        return PillowFile(image, data)
