"""A sketch of an image: 32 x 32 shades of grey, small enough to keep for every image and to compare with all others.

Near-copies are recognised on sketches (stages/ingest/near). The whole image is scaled, without its aspect, by the
antialiased filter of all views, so that size, format and compression hardly matter.
"""

from __future__ import annotations

import numpy as np

from reprise.media.image.readers.raster import Range
from reprise.media.image.scale import to_eight_bits
from reprise.media.image.transform import as_channels, resize

SIDE = 32  # pixels
_COLOURS = 3


def sketch(values: np.ndarray, extremes: Range = (0.0, 255.0), inverted: bool = False) -> bytes:
    """Scale decoded pixels down to a sketch.

    Args:
        values: (h, w) or (h, w, c) of any type; of other numbers of bands than three, their mean counts.
        extremes: the values that become black and white, where they are not of 8 bits. Near-copies are told by
            shapes and not by contrast, so an image's own smallest and largest will do.
        inverted: whether the smallest is white.

    Returns:
        SIDE * SIDE bytes, row by row.
    """
    bands = values[:, :, None] if values.ndim == 2 else values
    if bands.dtype != np.uint8:
        low, high = extremes
        bands = to_eight_bits(bands, (low, high if high > low else low + 1.0), inverted)
    small = resize(bands, SIDE, SIDE)
    if small.shape[2] == _COLOURS:
        small = as_channels(small, 1)
    total = small.sum(axis=2, dtype=np.uint32)
    return ((2 * total + small.shape[2]) // (2 * small.shape[2])).astype(np.uint8).tobytes()
