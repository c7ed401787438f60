"""Volumes as a modality: the parts of this folder under the names that all modalities share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reprise.config.errors import ImageRefused
from reprise.media.image.ranges import with_ranges
from reprise.media.modality import Choices, Examined, Limits, Stored
from reprise.media.volume import cube, fields, slices, stored
from reprise.media.volume.inspect import inspect_volume


class Volume:
    """The modality `volume`; reprise/media/modality.py describes arguments and results."""

    name = "volume"
    columns = fields.COLUMNS
    sides = ("depth", "height", "width")

    def claims(self, name: str) -> bool:
        """Return whether a name ends like that of a `.npy` or a NIfTI file."""
        return name.casefold().endswith(fields.NAMES)

    def inspect(self, data: bytes, where: str, limits: Limits) -> list[Examined]:
        """Read the one volume of a file completely and describe it (inspect.py)."""
        return [inspect_volume(data, where, limits)]

    def complete(self, samples: Sequence[Examined], trained: Sequence[bool], choices: Choices) -> list[Examined]:
        """Give all volumes of one type of values the same range, by the rules for images of more than 8 bits."""
        return with_ranges(samples, trained, choices)

    def extension(self, facts: Mapping[str, Any]) -> str:
        """Return the extension of the format that was found in the file."""
        return fields.EXTENSIONS[facts["format"]]

    def stored_form(self, data: bytes, where: str, facts: Mapping[str, Any], max_side: int) -> Stored:
        """Write 8 bits as `.npy` (stored.py)."""
        return stored.stored_form(data, where, facts, max_side)

    def largest_stored_bytes(self, facts: Mapping[str, Any], max_side: int) -> int:
        """Bound the length of the stored form (stored.py)."""
        return stored.largest_stored_bytes(facts, max_side)

    def decode(self, data: bytes, where: str, channels: int, reduce: int = 1) -> np.ndarray:
        """Decode the stored form, always whole (stored.py)."""
        return stored.decode(data, where, channels)

    def resize_to_square(self, pixels: np.ndarray, size: int, **preparation: Any) -> np.ndarray:
        """Scale to a cube (cube.py). No published weights are for volumes, so no preparation is asked for.

        Raises:
            ImageRefused: a part of the volume is to be cut off, as images are for some weights.
        """
        if preparation.get("crop_pct", 1.0) != 1.0 or preparation.get("crop_mode", "center") != "center":
            raise ImageRefused(
                "volumes are scaled whole",
                where="crop_pct, crop_mode",
                found=", ".join(f"{name} {value}" for name, value in sorted(preparation.items())),
                fix="Take a backbone that is made for volumes.",
            )
        return cube.resize_to_cube(pixels, size)

    def resize(self, pixels: np.ndarray, sides: Sequence[int], extent: tuple[float, float] | None = None) -> np.ndarray:
        """Scale with an antialiased triangle (cube.py)."""
        depth, height, width = sides
        return cube.resize(pixels, depth, height, width)

    def thumbnail(self, data: bytes, where: str, side: int) -> np.ndarray:
        """Draw the middle slices across the three axes (slices.py)."""
        return slices.thumbnail(data, where, side)

    def limit_threads(self) -> None:
        """Do nothing: NumPy's own threads are limited by the process."""
