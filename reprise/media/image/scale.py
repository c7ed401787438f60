"""More than 8 bits, brought to 8: which value becomes black, and which white.

One range holds for all images of a data set that have one type of sample, because a range of each image's own would
make a dim image and a bright one look alike. It is taken from the training images. The rules (`source.range`):

- `auto`: what the file's format declares, where that leaves no doubt (12 bits a sample, 10 bits in AVIF). Otherwise
  unsigned numbers run from 0 to the largest value of as many bits as the largest value needs (12 bits in 16 end at
  4095), or to what every file states (MaxSampleValue). Floating-point numbers between 0 and 1 keep that range. All
  others run from the smallest to the largest value.
- `declared`: only what files declare or state, or the whole range of the type.
- `observed`: from the smallest to the largest value.
- `percentiles`: the same, with percentiles of each image in place of its extremes.
- `given`: two numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reprise.media.image.readers.raster import Range, Raster
from reprise.media.modality import Choices

_TABLE = 16  # bits: up to here every value is looked up in a table
_ROWS = 256  # of an image, for numbers of 64 bits


class NoRange(ValueError):
    """The rule gives no range for these images."""


@dataclass(frozen=True)
class Observed:
    """What one image says about its range.

    Attributes:
        kind: the type of its samples and what is declared of them; images of one kind share a range.
        declared, stated: as in Raster.
        lowest, highest: finite values of the image; (0, 0) where it has none.
        low, high: the same, or its percentiles where the rule asks for them.
        incomplete: whether it holds infinite values, or such as are no number.
    """

    kind: str
    declared: Range | None
    stated: Range | None
    lowest: float
    highest: float
    low: float
    high: float
    incomplete: bool


def observe(raster: Raster, choices: Choices) -> Observed | None:
    """Look at the values of an image; None where it has 8 bits."""
    if raster.eight_bits:
        return None
    values, incomplete = raster.values, False
    if values.dtype.kind == "f":
        finite = np.isfinite(values)
        incomplete = not finite.all()
        values = values[finite] if incomplete else values
    if raster.missing is not None:
        present = values != raster.missing
        values = values if present.all() else values[present]
    lowest, highest = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    low, high = lowest, highest
    if choices.range == "percentiles" and values.size:
        low, high = (float(v) for v in np.percentile(values, choices.percentiles))
    kind = raster.values.dtype.name
    if raster.declared:
        kind += " from {:g} to {:g}".format(*raster.declared)
    return Observed(kind, raster.declared, raster.stated, lowest, highest, low, high, incomplete)


def common_range(images: Sequence[Observed], choices: Choices) -> Range:
    """Find the range of images of one kind.

    Args:
        images: at least one; all of one kind.
        choices: the rule.

    Returns:
        black and white; black is lower.

    Raises:
        NoRange: the rule is `declared`, and floating-point images state nothing.
    """
    first, kind = images[0], np.dtype(images[0].kind.split()[0])
    if choices.range == "given" and choices.given is not None:
        return choices.given
    if first.declared is not None and choices.range in ("auto", "declared"):
        return first.declared
    low, high = min(image.low for image in images), max(image.high for image in images)
    if choices.range in ("auto", "declared"):
        stated = [image.stated for image in images if image.stated is not None]
        if len(stated) == len(images):
            smallest, largest = min(s[0] for s in stated), max(s[1] for s in stated)
            if choices.range == "declared" or (smallest <= low and high <= largest):
                return smallest, largest
        if choices.range == "declared":
            if kind.kind == "f":
                raise NoRange("floating-point values whose black and white no file declares")
            return float(np.iinfo(kind).min), float(np.iinfo(kind).max)
        if kind.kind == "u":
            return 0.0, float(2 ** max(1, int(high).bit_length()) - 1)
        if kind.kind == "f" and low >= 0 and high <= 1:
            return 0.0, 1.0
    return (low, high) if low < high else (low, low + 1.0)


def own_range(raster: Raster) -> Range:
    """Return the range of a single image by the rule `auto`, for pictures outside of a data set."""
    observed = observe(raster, Choices())
    return (0.0, 255.0) if observed is None else common_range([observed], Choices())


def to_eight_bits(values: np.ndarray, black_and_white: Range, inverted: bool = False) -> np.ndarray:
    """Bring values to 0 to 255, rounded to the nearest; what lies beyond the range is cut off.

    Values that are no numbers become black.

    Args:
        values: any shape and type.
        black_and_white: the range.
        inverted: whether the lower end is white.

    Returns:
        uint8 of the same shape.
    """
    if values.dtype == np.uint8 and black_and_white == (0.0, 255.0):
        return values
    low, high = black_and_white
    if values.dtype.kind in "ui" and 8 * values.dtype.itemsize <= _TABLE:
        limits = np.iinfo(values.dtype)
        table = _shades(np.arange(limits.min, limits.max + 1, dtype=np.float64), low, high, inverted)
        return table[values.astype(np.int32) - limits.min]
    result = np.empty(values.shape, np.uint8)
    for top in range(0, len(values), _ROWS):
        result[top : top + _ROWS] = _shades(values[top : top + _ROWS].astype(np.float64), low, high, inverted)
    return result


def _shades(values: np.ndarray, low: float, high: float, inverted: bool) -> np.ndarray:
    values = (high - values if inverted else values - low) * 255.0 / (high - low)
    return np.floor(np.clip(np.nan_to_num(values, nan=0.0), 0.0, 255.0) + 0.5).astype(np.uint8)


def min_is_black(values: np.ndarray, black_and_white: Range) -> tuple[np.ndarray, Range]:
    """Turn values whose lowest is white around, without loss, and their range with them."""
    low, high = black_and_white
    if values.dtype.kind == "f":
        return -values, (-high, -low)
    top = np.iinfo(values.dtype).max if values.dtype.kind == "u" else -1
    return ~values, (top - high, top - low)
