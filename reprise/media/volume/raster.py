"""The values of one volume as its file holds them, and the limits that hold for every format."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from reprise.config.errors import ImageRefused
from reprise.media.modality import Limits

MOST_CHANNELS = 64  # as of images (reprise/config/params.py)
FIX = "Repair or remove it, then run again."
KINDS = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", "b1")  # types of values that are read


@dataclass(frozen=True)
class Block:
    """One volume, before its values are brought to 8 bits.

    Attributes:
        values: (D, H, W, C) in the type of the file.
        format: a key of fields.EXTENSIONS.
        spacing: distances between neighbours along D, H and W; None where the file does not say.
        changes: code -> sentence, for each thing that was done to the values.
    """

    values: np.ndarray
    format: str
    spacing: tuple[float, float, float] | None = None
    changes: dict[str, str] = field(default_factory=dict)


def checked_shape(shape: tuple[int, ...], where: str, limits: Limits | None) -> tuple[int, int, int, int]:
    """Return depth, height, width and channels of a shape that a header states, before memory is taken for it.

    Args:
        shape: (D, H, W) or (D, H, W, C).
        where: name of the file, for messages.
        limits: of the data set; None for a file that was inspected already.

    Raises:
        ImageRefused: other_dimensions, too_small or too_many_pixels.
    """
    if len(shape) not in (3, 4) or (len(shape) == 4 and not 1 <= shape[3] <= MOST_CHANNELS):
        raise ImageRefused(
            "other_dimensions",
            where=where,
            found=f"an array of shape {_shape(shape)}",
            fix=f"A volume is (depth, height, width), or has a fourth dimension of 1 to {MOST_CHANNELS} channels.",
        )
    depth, height, width = shape[:3]
    channels = shape[3] if len(shape) == 4 else 1
    if min(shape[:3]) < (1 if limits is None else limits.min_side):
        raise ImageRefused(
            "too_small",
            where=where,
            found=f"{depth} x {height} x {width} values",
            fix=f"Volumes need at least {1 if limits is None else limits.min_side} values a side (source.min_side).",
        )
    if limits is not None and depth * height * width * channels > limits.max_pixels:
        raise ImageRefused(
            "too_many_pixels",
            where=where,
            found=f"{_shape(shape)} values",
            fix=f"The limit is {limits.max_pixels} values (source.max_pixels).",
        )
    return depth, height, width, channels


def truncated(where: str, found: str) -> ImageRefused:
    """Make the refusal of a file that ends too early."""
    return ImageRefused("truncated", where=where, found=found, fix=FIX)


def undecodable(where: str, found: str) -> ImageRefused:
    """Make the refusal of a file whose content contradicts itself."""
    return ImageRefused("undecodable", where=where, found=found, fix=FIX)


def unsupported(where: str, found: str) -> ImageRefused:
    """Make the refusal of a type of values that is not read."""
    return ImageRefused(
        "unsupported_depth",
        where=where,
        found=found,
        fix="Volumes hold whole numbers of up to 64 bits or floating-point numbers; convert it.",
    )


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape[:8])) or "()"
