"""Bytes -> pixels of 8 bits, by one set of rules (docs/reference/data-rules.md) for every stage.

Readers return a page as its file holds it (pillow_file.py, heif.py, tiff/); scale.py brings more than 8 bits to 8. With
`channels=1` colours become the luma of ITU-R BT.601, with `channels=3` grey is repeated; any other number of bands has
to be the number that the image has.

An image is *plain* when these rules have nothing to do: 8-bit grey or RGB, upright, one frame, JPEG, PNG or WebP, and
OpenCV and Pillow decode the same pixels. Plain bytes are decoded by OpenCV, the faster of the two.
"""

from __future__ import annotations

import numpy as np

from reprise.config.errors import ImageRefused
from reprise.media.image.readers.files import open_file, read_page
from reprise.media.image.readers.opencv import decode_plain, decode_reduced
from reprise.media.image.scale import own_range, to_eight_bits
from reprise.media.image.transform import as_channels

MAX_PIXELS = 50_000_000


def decode(
    data: bytes,
    where: str,
    channels: int | None = 3,
    max_pixels: int = MAX_PIXELS,
    plain: bool = False,
    reduce: int = 1,
) -> np.ndarray:
    """Decode the first page of an image by the rules above.

    Args:
        data: the encoded file.
        where: its name, for messages.
        channels: bands wanted; None takes those of the image.
        max_pixels: largest width x height.
        plain: whether OpenCV may decode the bytes where they are plain, as most of what is in shards.
        reduce: 2, 4 or 8 decodes plain JPEG files at this fraction of their sides, rounded up.

    Returns:
        (height, width, channels) uint8.

    Raises:
        ImageRefused: the bytes cannot be decoded, or have other bands than wanted.
    """
    pixels = decode_reduced(data, reduce) if plain and reduce > 1 else None
    if pixels is None and plain:
        pixels = decode_plain(data)
    if pixels is None:
        raster = read_page(open_file(data, where, max_pixels), 0, where, data)
        pixels = to_eight_bits(raster.values, own_range(raster), raster.inverted)
    found = 1 if pixels.ndim == 2 else pixels.shape[2]
    wanted = found if channels is None else channels
    if found != wanted and {found, wanted} != {1, 3}:
        raise ImageRefused(
            "an image has other bands than networks see",
            where=where,
            found=f"{found} band{'s' if found > 1 else ''}, image.channels {wanted}",
            fix=f"Set image.channels to {found}, or choose {wanted} bands with source.bands in params.yaml.",
        )
    return as_channels(pixels, wanted)
