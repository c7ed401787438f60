"""Files that Pillow opens: JPEG, PNG, WebP, BMP, GIF, AVIF. Pillow decodes everything at least once.

EXIF orientation is applied, transparency is laid over white, palettes become RGB, and CMYK is converted without a
profile. Pillow has no type for colours of more than 8 bits: those of PNG and AVIF are decoded by OpenCV, after Pillow
found the file whole.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from reprise.config.errors import ImageRefused
from reprise.media.image.readers.opencv import chunks_fit, decode_unchanged
from reprise.media.image.readers.raster import (
    CONVERTED,
    REDUCED,
    TRANSPARENCY,
    Range,
    Raster,
    over_white,
    profile_change,
    turned,
    upright,
)

RANGE_KEYWORD = "reprise-range"  # of the text in PNG files of shards: black and white
UPRIGHT = 1  # EXIF orientation
_GREY, _GREY_ALPHA, _GREY_16 = ("1", "L"), ("LA", "La"), ("I;16", "I;16L", "I;16B", "I;16N")  # Pillow's modes
_COLOUR, _COLOUR_ALPHA = ("RGB", "CMYK", "YCbCr", "RGBX", "P"), ("RGBA", "RGBa", "PA")
_ORIENTATION = 0x0112  # EXIF tag


class PillowFile:
    """A file that Pillow opened (raster.Opened)."""

    def __init__(self, image: Any, data: bytes) -> None:
        self.image, self._data = image, data
        self.format = "JPEG" if image.format == "MPO" else str(image.format)
        # MPO is a JPEG with further pictures behind the first, such as a map of light: only the first is a photograph.
        self.pages = 1 if image.format == "MPO" else max(1, int(getattr(image, "n_frames", 1)))
        self.bits = _bits(self.format, data)

    def size(self, page: int) -> tuple[int, int, int]:
        """Width and height of the canvas, which all frames share, and four bytes a pixel."""
        width, height = self.image.size
        return width, height, 4 * width * height

    def read(self, page: int) -> Raster:
        """Decode a frame by the rules above."""
        if page != self.image.tell():
            self.image.seek(page)
        self.image.load()
        if self.bits > 8 and self.image.mode not in _GREY_16:
            if page == 0:
                return self._deep()
            reduced = {REDUCED: f"{self.bits} bits were reduced to 8 by the decoder, which has no more in animations"}
            shallow = shown(self.image)
            return Raster(shallow.values, changes=shallow.changes | reduced)
        raster = shown(self.image)
        return Raster(raster.values, self._range(), changes=raster.changes)

    def _range(self) -> Range | None:
        """Return the range that the text of a PNG from the shards gives."""
        words = str(getattr(self.image, "text", {}).get(RANGE_KEYWORD, "")).split()
        try:
            low, high = (float(word) for word in words)
        except ValueError:
            return None
        return (low, high) if np.isfinite([low, high]).all() and low != high else None

    def _deep(self) -> Raster:
        """Decode colours, or grey with transparency, of more than 8 bits with OpenCV."""
        if self.format == "PNG" and not chunks_fit(self._data):
            raise ValueError("a chunk lies beyond the end of the file")
        values = decode_unchanged(self._data)
        if values is None or values.dtype != np.uint16 or values.shape[1::-1] != self.image.size:
            raise ValueError("the decoders do not agree what it holds")
        white = 2**self.bits - 1
        key, changes = self.image.info.get("transparency"), {}
        if values.ndim == 3 and values.shape[2] == 4:
            values, changes = over_white(values[:, :, :3], values[:, :, 3], white), transparent()
        elif key is not None:
            matches = values == np.array(key, np.uint16)
            values = np.where(matches if values.ndim == 2 else matches.all(axis=2)[:, :, None], white, values)
            values, changes = values.astype(np.uint16), transparent()
        if values.ndim == 3 and self.image.mode in _GREY_ALPHA:
            values = values[:, :, 0]
        changes |= turned(orientation(self.image)) | profile_change(self.image.info.get("icc_profile"))
        declared = (0.0, float(white)) if self.format == "AVIF" else self._range()
        return Raster(upright(values, orientation(self.image)), declared, changes=changes)


def shown(image: Any) -> Raster:
    """Bring a loaded Pillow image to grey or RGB of 8 bits; grey of 16 bits stays as it is.

    Raises:
        ImageRefused: a pixel type without a stated scale.
    """
    from PIL import Image

    mode, turn = image.mode, orientation(image)
    changes = turned(turn) | profile_change(image.info.get("icc_profile"))
    if mode in _GREY_16:
        return Raster(upright(np.asarray(image).astype(np.uint16), turn), changes=changes)
    if mode not in (*_GREY, *_GREY_ALPHA, *_COLOUR, *_COLOUR_ALPHA):
        raise ImageRefused(
            "unsupported_depth",
            where="the image",
            found=f"pixel type {mode}",
            fix="Convert it to 8 or 16 bits a channel.",
        )
    grey = mode in (*_GREY, *_GREY_ALPHA)
    if mode in (*_GREY_ALPHA, *_COLOUR_ALPHA) or "transparency" in image.info:
        changes |= transparent()
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        white.alpha_composite(layer)
        result = white.convert("RGB")
        result = result.getchannel("R") if grey else result
    else:
        changes |= converted(mode) if mode == "CMYK" else {}
        result = image.convert("L" if grey else "RGB")
    return Raster(upright(np.array(result, dtype=np.uint8), turn), changes=changes)


def orientation(image: Any) -> int:
    """Return the EXIF orientation of a loaded Pillow image; 1 is upright."""
    turn = image.getexif().get(_ORIENTATION, UPRIGHT)
    return turn if isinstance(turn, int) else UPRIGHT


def transparent() -> dict[str, str]:
    """Return the change of a picture that was transparent in places."""
    return {TRANSPARENCY: "transparency was laid over white"}


def converted(colours: str) -> dict[str, str]:
    """Return the change of a picture in other colours than RGB."""
    return {CONVERTED: f"{colours} was converted to RGB without a colour profile"}


def _bits(file_format: str, data: bytes) -> int:
    """Read the depth that Pillow hides: it reports 16-bit colour as RGB after it has dropped the lower bits."""
    if file_format == "PNG":
        return data[24] if len(data) > 24 else 8
    if file_format == "AVIF" and 0 <= (box := data.find(b"av1C")) < len(data) - 6:
        (flags,) = struct.unpack_from("B", data, box + 6)  # AV1-ISOBMFF 2.3.3: high_bitdepth, twelve_bit
        return 8 if not flags & 0x40 else 12 if flags & 0x20 else 10
    return 8
