"""HEIC: photographs of phones and cameras, decoded by libheif through pillow-heif, with 10 and 12 bits as they are.

libheif applies rotation and mirroring itself. Top-level images (a burst) are pages; thumbnails, depth maps and gain
maps are not.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from reprise.media.image.readers.pillow_file import transparent
from reprise.media.image.readers.raster import Raster, over_white, profile_change

_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
_BRANDS_OF_BOTH = (b"mif1", b"msf1")  # of HEIC and AVIF; the latter has the configuration of its codec, `av1C`


def is_heif(data: bytes) -> bool:
    """Return whether these bytes begin like HEIC."""
    brand = data[8:12]
    return data[4:8] == b"ftyp" and (brand in _BRANDS or (brand in _BRANDS_OF_BOTH and b"av1C" not in data))


class HeifFile:
    """A HEIC file (raster.Opened)."""

    format = "HEIC"

    def __init__(self, data: bytes) -> None:
        import pillow_heif
        from pillow_heif import options

        options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = False
        options.DECODE_THREADS = 1
        self._images: Any = pillow_heif.HeifFile(io.BytesIO(data), convert_hdr_to_8bit=False, hdr_to_16bit=False)
        first = self._images.primary_index
        self._order = [first, *(n for n in range(len(self._images)) if n != first)]
        self.pages = len(self._order)

    def size(self, page: int) -> tuple[int, int, int]:
        """Width and height, and eight bytes a pixel."""
        width, height = self._images[self._order[page]].size
        return width, height, 8 * width * height

    def read(self, page: int) -> Raster:
        """Decode an image: grey or RGB, of 8 bits, or of the 10 or 12 that it declares."""
        image = self._images[self._order[page]]
        values, bits = np.array(image), int(image.info.get("bit_depth", 8))
        white, changes = 2**bits - 1, profile_change(image.info.get("icc_profile"))
        if image.has_alpha:
            colours, alpha = values[:, :, :-1], values[:, :, -1]
            values = over_white(colours, alpha, white, image.premultiplied_alpha)
            changes |= transparent()
        values = values[:, :, 0] if values.ndim == 3 and values.shape[2] == 1 else values
        return Raster(values, (0.0, float(white)) if bits > 8 else None, changes=changes)
