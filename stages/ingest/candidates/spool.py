"""Images that a source can read only once, kept in a file when they are many, so that memory stays bounded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, TypeVar

from stages.ingest.source import Candidate, EncodedFact, Once, Part

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
        kept: Candidate = item
        if isinstance(kept.reference, bytes | Once):
            kept = replace(kept, reference=self._kept(kept.reference))
        if any(isinstance(value, EncodedFact) for value in kept.facts.values()):
            kept = replace(kept, facts={name: self._kept_fact(value) for name, value in kept.facts.items()})
        return kept

    def _kept_fact(self, value: Any) -> Any:
        if not isinstance(value, EncodedFact) or not isinstance(value.encoded, Once):
            return value
        kept = self._kept(value.encoded)
        return value if isinstance(kept, bytes) else replace(value, encoded=kept)

    def _kept(self, reference: bytes | Once) -> bytes | Once | Part:
        """Write bytes to the file, unless they are among the first."""
        data = reference.data if isinstance(reference, Once) else reference
        self._held += len(data)
        if self._held <= _IN_MEMORY:
            return reference
        if self._file is None:
            self._file = open(self._path, "wb", buffering=1 << 20)  # noqa: SIM115 - closed by __exit__
        part = Part(str(self._path), self._file.tell(), len(data), stays=False)
        self._file.write(data)
        return part

    def flush(self) -> None:
        """Write out what was kept, so that other processes can read it."""
        if self._file is not None:
            self._file.flush()
