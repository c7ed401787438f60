"""A TIFF file as pages: which directories are pictures, and what their samples mean as colours.

A band counts as transparency only where ExtraSamples says so; all other bands are kept. Min-is-white is inverted,
palettes become RGB, CMYK and YCbCr are converted. JPEG and fax compression are left to Pillow, which calls libtiff.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np

from reprise.config.errors import ImageRefused
from reprise.media.image.readers.pillow_file import converted, shown, transparent
from reprise.media.image.readers.raster import (
    INVERTED,
    Range,
    Raster,
    over_white,
    profile_change,
    turned,
    upright,
)
from reprise.media.image.readers.refusal import Unsupported
from reprise.media.image.readers.tiff.directory import Directory, read_directories
from reprise.media.image.readers.tiff.segments import (
    COMPRESSION,
    FLOAT,
    HEIGHT,
    SAMPLES,
    WIDTH,
    Samples,
    read_samples,
    sample_type,
)

RANGE_WORDS = "reprise-range:"  # in the description of TIFF files of shards, before black and white
DESCRIPTION, PHOTOMETRIC, EXTRA_SAMPLES, NO_DATA = 270, 262, 338, 42113
_SUBFILE, _ORIENTATION, _COLOUR_MAP, _PROFILE, _DNG, _SUBSAMPLING = 254, 274, 320, 34675, 50706, 530
_MIN, _MAX, _SAMPLE_MIN, _SAMPLE_MAX = 280, 281, 340, 341
_NO_PICTURE = 1 | 4  # bits of _SUBFILE: a smaller version of another page, a mask of another page
_BY_PILLOW = (2, 3, 4, 6, 7)  # compressions: three kinds of fax, two of JPEG
_YCBCR, _CMYK, _PALETTE = 6, 5, 3
_COLOURS = {0: 1, 1: 1, 2: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3}  # photometric interpretation -> samples of a colour
MOST_BANDS = 64  # as in reprise/config/params.py, which is too heavy for here


class TiffFile:
    """A TIFF file (raster.Opened)."""

    format = "TIFF"

    def __init__(self, data: bytes) -> None:
        """Read the structure.

        Raises:
            ImageRefused: the file begins with a preview. ValueError: it is damaged.
        """
        self._data = data
        directories = list(read_directories(data))
        if not directories or _is_preview(directories[0]):
            raise ImageRefused(
                "not_an_image",
                where="the image",
                found="a camera's raw file, or a TIFF that begins with a small version of its image",
                fix="Convert it to JPEG, PNG or TIFF.",
            )
        self._pages = [page for page in directories if not page.integer(_SUBFILE, 0) & _NO_PICTURE]
        self.pages = len(self._pages)

    def size(self, page: int) -> tuple[int, int, int]:
        """Width and height as stored, and the bytes of all samples."""
        tags = self._pages[page]
        width, height, samples = tags.integer(WIDTH), tags.integer(HEIGHT), tags.integer(SAMPLES, 1)
        if samples > MOST_BANDS:
            raise Unsupported(f"{samples} bands; at most {MOST_BANDS} are supported")
        return width, height, width * height * samples * sample_type(tags).type.itemsize

    def read(self, page: int) -> Raster:
        """Decode a page."""
        tags = self._pages[page]
        if tags.integer(COMPRESSION, 1) in _BY_PILLOW:
            return self._by_pillow(tags)
        samples = sample_type(tags)
        raster = _as_colours(read_samples(tags, self._data), samples, tags)
        turn = tags.integer(_ORIENTATION, 1)
        changes = raster.changes | turned(turn) | profile_change(_bytes(tags, _PROFILE))
        deep = not raster.eight_bits
        return Raster(
            upright(raster.values, turn),
            _declared(tags, samples) if deep else None,
            _stated(tags) if deep else None,
            _number(tags.text(NO_DATA)) if deep else None,
            raster.inverted,
            changes,
        )

    def _by_pillow(self, tags: Directory) -> Raster:
        """Decode JPEG and fax, whose samples have 8 bits or one, and whose colours Pillow knows."""
        from PIL import Image

        samples = sample_type(tags)
        if samples.count not in (1, 3, 4) or (samples.count == 4 and tags.integer(PHOTOMETRIC) != _CMYK):
            raise Unsupported(f"JPEG compression of {samples.count} bands")
        image = Image.open(io.BytesIO(self._data), formats=("TIFF",))
        image.seek(tags.number)
        image.load()  # which turns it upright as well
        if image.mode not in ("1", "L", "RGB", "YCbCr", "CMYK"):
            raise Unsupported(f"compression {tags.integer(COMPRESSION)} with Pillow's pixel type {image.mode}")
        raster = shown(image)
        inverted = {INVERTED: _INVERTED} if tags.integer(PHOTOMETRIC) == 0 and samples.bits > 1 else {}
        return Raster(raster.values, changes=raster.changes | turned(tags.integer(_ORIENTATION, 1)) | inverted)


_INVERTED = "the lowest value means white (min-is-white): it was inverted"


def _is_preview(first: Directory) -> bool:
    """Return whether the first page is not the picture itself, as in the raw files of cameras."""
    return _DNG in first.tags or bool(first.integer(_SUBFILE, 0) & 1)


def _as_colours(values: np.ndarray, samples: Samples, tags: Directory) -> Raster:
    """Apply the photometric interpretation and the extra samples to (h, w, s) samples; orientation comes later."""
    photometric = tags.integer(PHOTOMETRIC)
    if photometric not in _COLOURS:
        raise Unsupported(f"photometric interpretation {photometric}")
    own = _COLOURS[photometric]
    if samples.count < own:
        raise ValueError(f"{samples.count} samples for colours of {own}")
    kinds = tags.numbers(EXTRA_SAMPLES).tolist()[: samples.count - own]
    kinds = [0] * (samples.count - own - len(kinds)) + kinds
    if samples.code == 1 and samples.bits < 8 and photometric != _PALETTE:
        values = _fill_eight_bits(values, samples.bits)
    inverted, changes = photometric == 0, {INVERTED: _INVERTED} if photometric == 0 else {}
    if inverted and values.dtype == np.uint8:
        values, inverted = 255 - values, False
    colours, extra = values[:, :, :own], values[:, :, own:]
    if photometric in _CONVERSIONS:
        colours, change = _CONVERSIONS[photometric](colours, samples, tags)
        changes |= change
    opaque = [index for index, kind in enumerate(kinds) if kind in (1, 2)]
    if opaque:
        alpha = _alpha_like(extra[:, :, opaque[0]], colours)
        colours = over_white(colours, alpha, _white(colours.dtype), kinds[opaque[0]] == 1)
        changes |= transparent()
        extra = np.delete(extra, opaque, axis=2)
    if extra.shape[2]:
        if photometric in _CONVERSIONS:
            raise Unsupported(f"{extra.shape[2]} further bands beside a palette, CMYK or YCbCr")
        colours = np.concatenate([colours, extra], axis=2)
    return Raster(colours[:, :, 0] if colours.shape[2] == 1 else colours, inverted=inverted, changes=changes)


def _fill_eight_bits(values: np.ndarray, bits: int) -> np.ndarray:
    """Spread samples of fewer than 8 bits over 0 to 255."""
    top = 2**bits - 1
    return np.array([(2 * v * 255 + top) // (2 * top) for v in range(top + 1)], np.uint8)[values]


def _white(kind: np.dtype) -> float:
    """Return the value of opaque and white, which files with transparency take as the end of their type."""
    return 1.0 if kind.kind == "f" else float(np.iinfo(kind).max)


def _alpha_like(alpha: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Bring alpha to the scale of converted colours."""
    if alpha.dtype == colours.dtype:
        return alpha
    return (alpha >> (8 * (alpha.dtype.itemsize - 1))).astype(colours.dtype)


def _eight(values: np.ndarray, samples: Samples) -> np.ndarray:
    """Return the upper eight bits of unsigned samples."""
    if samples.code != 1 or samples.bits not in (8, 16):
        raise Unsupported(f"CMYK or YCbCr of {samples.bits} bits")
    return np.ascontiguousarray(values >> (samples.bits - 8)).astype(np.uint8)


def _from_palette(values: np.ndarray, samples: Samples, tags: Directory) -> tuple[np.ndarray, dict[str, str]]:
    """Look up colours; the entries have 16 bits, of which programs use the upper eight."""
    palette = tags.numbers(_COLOUR_MAP)
    if samples.code != 1 or samples.bits > 16 or len(palette) != 3 * 2**samples.bits:
        raise ValueError("a palette that does not fit its samples")
    return (palette.reshape(3, -1).T >> 8).astype(np.uint8)[values[:, :, 0]], {}


def _from_cmyk(values: np.ndarray, samples: Samples, tags: Directory) -> tuple[np.ndarray, dict[str, str]]:
    from PIL import Image

    return np.asarray(Image.fromarray(_eight(values, samples), "CMYK").convert("RGB")), converted("CMYK")


def _from_ycbcr(values: np.ndarray, samples: Samples, tags: Directory) -> tuple[np.ndarray, dict[str, str]]:
    from PIL import Image

    if tags.numbers(_SUBSAMPLING, (2, 2)).tolist() != [1, 1]:
        raise Unsupported("YCbCr with subsampled colours and without JPEG compression")
    return np.asarray(Image.fromarray(_eight(values, samples), "YCbCr").convert("RGB")), {}


_CONVERSIONS: dict[int, Callable[..., tuple[np.ndarray, dict[str, str]]]] = {
    _PALETTE: _from_palette,
    _CMYK: _from_cmyk,
    _YCBCR: _from_ycbcr,
}


def _declared(tags: Directory, samples: Samples) -> Range | None:
    """Return black and white where the file leaves no doubt: bits that fill no type, or the words of a shard."""
    text = tags.text(DESCRIPTION)
    if text.startswith(RANGE_WORDS):
        low, high = (_number(word) for word in text[len(RANGE_WORDS) :].split())
        if low is not None and high is not None and low != high:
            return low, high
    if samples.code != FLOAT and samples.bits not in (8, 16, 32, 64):
        return 0.0, float(2**samples.bits - 1)
    return None


def _stated(tags: Directory) -> Range | None:
    """Return the smallest and largest value that the file states; both or none."""
    largest = [*tags.numbers(_SAMPLE_MAX), *tags.numbers(_MAX)]
    smallest = [*tags.numbers(_SAMPLE_MIN), *tags.numbers(_MIN)] or [0]
    if not largest or not np.isfinite([*largest, *smallest]).all() or max(largest) <= min(smallest):
        return None
    return float(min(smallest)), float(max(largest))


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _bytes(tags: Directory, tag: int) -> bytes | None:
    value: Any = tags.tags.get(tag)
    return value if isinstance(value, bytes) else None
