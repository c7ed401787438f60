"""Images that a source can read only once, kept in a file when they are many, so that memory stays bounded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, TypeVar

from stages.ingest.source import Candidate, Once, Part

_IN_MEMORY = 64 << 20  # bytes of images that stay in memory; those after them go to the file
Item = TypeVar("Item")


class Spool:
    """A file of encoded images, one after the other; used as a context manager, and gone after it.

    Args:
        folder: where the file lies.
    """

    def __init__(self, folder: Path) -> None:
        self._path, self._held = folder / "spool", 0
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._path.unlink()

    def keep(self, item: Item) -> Item | Candidate:
        """Return an item of a source; a candidate of which the bytes went to the file refers to its part of it."""
        if not isinstance(item, Candidate):
            return item
        reference = item.reference
        data = reference.data if isinstance(reference, Once) else reference
        if not isinstance(data, bytes):
            return item
        self._held += len(data)
        if self._held <= _IN_MEMORY:
            return item
        if self._file is None:
            self._file = open(self._path, "wb", buffering=1 << 20)  # noqa: SIM115 - closed by __exit__
        part = Part(str(self._path), self._file.tell(), len(data), stays=False)
        self._file.write(data)
        return replace(item, reference=part)

    def flush(self) -> None:
        """Write out what was kept, so that other processes can read it."""
        if self._file is not None:
            self._file.flush()
