"""The pixels of one page as its file holds them, before anything is brought to 8 bits; and what opens a file.

Raster is what every reader returns (pillow_file.py, heif.py, tiff/pages.py), and scale.py brings it to 8 bits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

Range = tuple[float, float]  # the value that becomes black, and the one that becomes white

# Codes of what was changed on the way in (docs/reference/data-rules.md); a reader says the rest as a sentence.
TURNED, TRANSPARENCY, INVERTED, CONVERTED = "turned", "transparency", "inverted", "converted"
PROFILE, REDUCED = "profile", "depth_reduced"
_ROWS = 256  # of an image, for numbers of 64 bits
_TRANSPOSED = {  # EXIF orientation -> what makes the stored pixels upright
    2: (False, True, False),  # transpose, mirror columns, mirror rows: in this order
    3: (False, True, True),
    4: (False, False, True),
    5: (True, False, False),
    6: (True, True, False),
    7: (True, True, True),
    8: (True, False, True),
}


@dataclass(frozen=True)
class Raster:
    """One page, upright, transparency laid over white.

    Attributes:
        values: (h, w) or (h, w, c), in the type of the file; unsigned samples of up to 8 bits fill 0 to 255.
        declared: black and white, where the file's format leaves no doubt; None for the whole range of the type.
        stated: smallest and largest value, where the file states them.
        missing: the value that means "no data", where the file names one.
        inverted: whether the lowest value is white. Only for more than 8 bits; others are inverted already.
        changes: code -> sentence, for each thing that was done to the picture.
    """

    values: np.ndarray
    declared: Range | None = None
    stated: Range | None = None
    missing: float | None = None
    inverted: bool = False
    changes: dict[str, str] = field(default_factory=dict)

    @property
    def channels(self) -> int:
        """Number of bands."""
        return 1 if self.values.ndim == 2 else int(self.values.shape[2])

    @property
    def eight_bits(self) -> bool:
        """Whether the values are shown as they are."""
        return self.values.dtype == np.uint8


class Opened(Protocol):
    """A file whose headers are read and whose pixels are not."""

    format: str  # one of decode.FORMATS
    pages: int  # that can be read

    def size(self, page: int) -> tuple[int, int, int]:
        """Return width and height as stored, and the bytes that the page takes when it is read."""

    def read(self, page: int) -> Raster:
        """Decode a page, counted from 0, completely. Any exception means that it cannot be decoded."""


def upright(values: np.ndarray, orientation: int) -> np.ndarray:
    """Turn pixels as an EXIF orientation says; an unknown one turns nothing."""
    transpose, columns, rows = _TRANSPOSED.get(orientation, (False, False, False))
    if transpose:
        values = values.swapaxes(0, 1)
    if columns:
        values = values[:, ::-1]
    if rows:
        values = values[::-1]
    return np.ascontiguousarray(values)


def turned(orientation: int) -> dict[str, str]:
    """Return the change that `upright` makes; empty where it makes none."""
    return {TURNED: "turned upright, as its EXIF orientation says"} if orientation in _TRANSPOSED else {}


def over_white(colours: np.ndarray, alpha: np.ndarray, white: float, premultiplied: bool = False) -> np.ndarray:
    """Lay colours over white.

    Args:
        colours: (h, w) or (h, w, c) integers or floats.
        alpha: (h, w), from 0 for transparent to `white` for opaque.
        white: the value of white.
        premultiplied: whether the colours were multiplied with alpha already.

    Returns:
        `colours` in the same type.
    """
    result = np.empty_like(colours)
    for top in range(0, len(colours), _ROWS):  # a block at a time: numbers of 64 bits take eight times the memory
        rows = slice(top, top + _ROWS)
        share = alpha[rows].astype(np.float64) / white
        share = share if colours.ndim == 2 else share[:, :, None]
        light = colours[rows] * (1.0 if premultiplied else share) + white * (1.0 - share)
        light = np.clip(light, 0, white)
        result[rows] = np.floor(light + 0.5) if colours.dtype.kind in "ui" else light
    return result


def profile_change(profile: bytes | None) -> dict[str, str]:
    """Return the change of a colour profile that is passed over; sRGB is what everybody assumes anyway."""
    if not profile or b"sRGB" in profile or "sRGB".encode("utf-16-be") in profile:
        return {}
    return {PROFILE: "its colour profile is not sRGB and was not applied"}
