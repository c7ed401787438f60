"""A picture of a volume for the eye: the middle slices across its three axes, side by side."""

from __future__ import annotations

import numpy as np

from reprise.media.image.thumbnail import as_colour, shrink
from reprise.media.volume.stored import decode

_GAP = 1  # columns of grey between two slices
_GREY = 127


def middle_slices(values: np.ndarray) -> np.ndarray:
    """Lay the middle slices of (D, H, W, C) side by side: (rows, columns, C).

    From the left they are seen along the depth (height x width), along the height (depth x width), and along the width
    (depth x height). Rows run as the axis does, so the first slice of a stack is at the top.
    """
    depth, height, width, channels = values.shape
    slices = [values[depth // 2], values[:, height // 2], values[:, :, width // 2]]
    rows = max(len(one) for one in slices)
    columns = sum(one.shape[1] for one in slices) + 2 * _GAP
    picture = np.full((rows, columns, channels), _GREY, np.uint8)
    left = 0
    for one in slices:
        top = (rows - len(one)) // 2
        picture[top : top + len(one), left : left + one.shape[1]] = one
        left += one.shape[1] + _GAP
    return picture


def thumbnail(data: bytes, where: str, side: int) -> np.ndarray:
    """Draw the middle slices and scale them down: (h, w, 3) uint8 RGB, at most `side` columns wide, never enlarged.

    Raises:
        ImageRefused: the bytes cannot be decoded.
    """
    return shrink(np.ascontiguousarray(as_colour(middle_slices(decode(data, where, None)))), side)
