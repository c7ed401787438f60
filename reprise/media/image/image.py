"""Images as a modality: the parts of this folder under the names that all modalities share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reprise.media.image import fields, stored, thumbnail, transform
from reprise.media.image.decode import decode
from reprise.media.image.inspect import inspect_pages
from reprise.media.image.ranges import with_ranges
from reprise.media.image.readers.names import claims_picture
from reprise.media.image.readers.opencv import limit_threads
from reprise.media.modality import Choices, Examined, Limits, Stored


class Image:
    """The modality `image`; reprise/media/modality.py describes arguments and results."""

    name = "image"
    columns = fields.COLUMNS
    sides = ("height", "width")

    def claims(self, name: str) -> bool:
        """Return whether a name is that of a picture (names.py)."""
        return claims_picture(name)

    def inspect(self, data: bytes, where: str, limits: Limits) -> list[Examined]:
        """Decode the pages that were chosen completely and describe each (inspect.py)."""
        found = inspect_pages(data, where, limits)
        several = len(found) > 1
        return [
            Examined(
                {name: getattr(page, name, None) for name in fields.COLUMNS},
                f"page {page.page}" if several else "",
                page.observed,
                page.changes,
                page.sketch,
            )
            for page in found
        ]

    def complete(self, samples: Sequence[Examined], trained: Sequence[bool], choices: Choices) -> list[Examined]:
        """Give all images of one type of sample the same range of values (ranges.py)."""
        return with_ranges(samples, trained, choices)

    def extension(self, facts: Mapping[str, Any]) -> str:
        """Return the extension of the format that was found in the file."""
        return fields.EXTENSIONS[facts["format"]]

    def stored_form(self, data: bytes, where: str, facts: Mapping[str, Any], max_side: int) -> Stored:
        """Keep plain bytes, store anything else without loss (stored.py)."""
        return stored.stored_form(data, where, facts, max_side)

    def largest_stored_bytes(self, facts: Mapping[str, Any], max_side: int) -> int:
        """Bound the length of the stored form (stored.py)."""
        return stored.largest_stored_bytes(facts, max_side)

    def decode(self, data: bytes, where: str, channels: int, reduce: int = 1) -> np.ndarray:
        """Decode the stored form (decode.py)."""
        return decode(data, where, channels, plain=True, reduce=reduce)

    def resize_to_square(self, pixels: np.ndarray, size: int, **preparation: Any) -> np.ndarray:
        """Scale the shorter side and crop the centre (transform.py)."""
        return transform.resize_to_square(pixels, size, **preparation)

    def resize(self, pixels: np.ndarray, sides: Sequence[int], extent: tuple[float, float] | None = None) -> np.ndarray:
        """Scale with the antialiased triangle (transform.py)."""
        height, width = sides
        return transform.resize(pixels, width, height, extent=extent)

    def thumbnail(self, data: bytes, where: str, side: int) -> np.ndarray:
        """Scale the longer side down (thumbnail.py)."""
        return thumbnail.thumbnail(data, where, side)

    def limit_threads(self) -> None:
        """Keep OpenCV to one thread in this process."""
        limit_threads()
