"""Sketches of all images, in a file without a name: a million of them take a gigabyte of disk and no memory."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from reprise.media.image.sketch import SIDE

_BYTES = SIDE * SIDE


class SketchFile:
    """Sketches by number, in the order in which they were added; used as a context manager.

    Args:
        folder: where the file lies; it vanishes with the process.
    """

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder, buffering=1 << 20)  # noqa: SIM115 - closed by __exit__
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, sketch: bytes) -> int:
        """Append a sketch and return its number; none (an empty one) is kept as a black one."""
        self._file.write(sketch or bytes(_BYTES))
        self._count += 1
        return self._count - 1

    def read(self, numbers: np.ndarray) -> np.ndarray:
        """Return the sketches with these numbers: (n, SIDE, SIDE) uint8."""
        if not len(numbers):
            return np.empty((0, SIDE, SIDE), np.uint8)
        self._file.flush()
        return np.memmap(self._file, np.uint8, "r", shape=(self._count, SIDE, SIDE))[numbers]
