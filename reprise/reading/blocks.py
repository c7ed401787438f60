"""Rows of numbers that are costly to compute, kept on the disk in blocks as they are first asked for.

An entry is a folder below the cache's folder; its name is a hash of everything that the numbers depend on. It holds one
file a block of consecutive rows (`<number>.npy`), each written under a name of its own and renamed into place: several
processes may fill one entry at once, and all write the same bytes. A block that is missing, cut off or removed while a
process works is computed again.

An entry counts with the size that it will have when it is whole, which stands in it (`size`) before its first block.
The cache's folder stays below a bound: entries that were used longest ago make room, and an entry that would not fit
alone is not written, with the same result.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reprise.reading.entry import DISK_FULL
from reprise.reading.words import bytes_in_words, say
from reprise.storage.atomic import atomic_file
from reprise.storage.locks import waiting_for
from reprise.storage.progress import Progress

Compute = Callable[[np.ndarray], np.ndarray]  # (m,) row numbers -> (m, *shape) float32
SIZE = "size"  # the file that states how many bytes an entry will take


@dataclass(frozen=True)
class Bounds:
    """How much a cache may take.

    Attributes:
        max_bytes: of the disk, by all entries together.
        memory_bytes: an entry of at most this size is kept in memory too; of a larger one only what is asked for.
    """

    max_bytes: int
    memory_bytes: int


class Blocks:
    """The rows of one entry.

    Args:
        folder: of the entry; those of the other entries lie beside it.
        count: rows.
        shape: of a row.
        per_block: rows in a block.
        compute: computes rows; the result for a row must not depend on the others.
        bounds: of the cache.
        noun: what a row is, for the terminal ("local features of an image").
    """

    def __init__(
        self,
        folder: Path,
        count: int,
        shape: tuple[int, ...],
        per_block: int,
        compute: Compute,
        bounds: Bounds,
        noun: str,
    ) -> None:
        self._folder, self._count, self._shape, self._per_block = folder, count, shape, per_block
        self._compute, self._bounds, self._noun = compute, bounds, noun
        self._memory: dict[int, np.ndarray] = {}
        self._stated = False
        self.total = count * math.prod(shape) * 4
        self.cached = 0 < self.total <= bounds.max_bytes

    def rows(self, wanted: np.ndarray) -> np.ndarray:
        """Return rows by their numbers: (m,) integers -> (m, *shape) float32."""
        self._state_size()
        wanted = np.asarray(wanted, np.int64)
        if not self.cached:
            return self._compute(wanted)
        found = np.empty((len(wanted), *self._shape), np.float32)
        of_block = wanted // self._per_block
        needed = np.unique(of_block).tolist()
        missing = sum(block not in self._memory and not self._path(block).exists() for block in needed)
        with Progress(self._noun, missing * self._per_block) as progress:
            for block in needed:
                place = of_block == block
                found[place] = self._block(block, progress)[wanted[place] - block * self._per_block]
        return found

    def _path(self, block: int) -> Path:
        return self._folder / f"{block}.npy"

    def _state_size(self) -> None:
        """Say once how much the entry will take, before any of it is written."""
        if self._stated:
            return
        self._stated = True
        with suppress(OSError):
            os.utime(self._folder)  # the time of last use
        size, most = bytes_in_words(self.total), bytes_in_words(self._bounds.max_bytes)
        if self.cached and not self._folder.exists():
            say(f"{self._noun}, {self._count:,} rows, take up to {size} of {most} in {self._folder.parent}")
        elif not self.cached and self._bounds.max_bytes and self.total:
            say(f"{self._noun}, {self._count:,} rows, would take {size}, more than cache.max_bytes ({most}): they are")
            say("computed on the way, whenever they are needed")

    def _block(self, block: int, progress: Progress) -> np.ndarray:
        found = self._load(block)
        if found is None:
            first = block * self._per_block
            numbers = np.arange(first, min(first + self._per_block, self._count))
            found = np.ascontiguousarray(self._compute(numbers), np.float32)
            self._write(block, found)
            progress.advance(len(numbers))
        if self.total <= self._bounds.memory_bytes:
            self._memory[block] = found
        return found

    def _load(self, block: int) -> np.ndarray | None:
        """Read or map a block; None where there is none, or a damaged one."""
        if block in self._memory:
            return self._memory[block]
        try:
            found = np.load(self._path(block), mmap_mode=None if self.total <= self._bounds.memory_bytes else "r")
        except (OSError, ValueError, EOFError):
            return None
        expected = (min(self._per_block, self._count - block * self._per_block), *self._shape)
        return found if found.shape == expected and found.dtype == np.float32 else None

    def _write(self, block: int, values: np.ndarray) -> None:
        """Keep a block, whole or not at all; a full disk ends the writing and not the work."""
        if not self.cached:
            return
        partial: Path | None = None
        try:
            if not (self._folder / SIZE).exists():
                open_entry(self._folder, self.total, self._bounds.max_bytes)
            descriptor, name = tempfile.mkstemp(prefix=".partial-", dir=self._folder)
            partial = Path(name)
            with os.fdopen(descriptor, "wb") as file:
                np.save(file, values)
            os.replace(partial, self._path(block))
        except FileNotFoundError:  # another process has just removed the entry
            pass
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            self.cached = False
            say(f"the disk is full ({error.strerror}): {self._noun} are computed on the way from here on")
        finally:
            if partial is not None:
                partial.unlink(missing_ok=True)


def open_entry(entry: Path, total: int, max_bytes: int) -> None:
    """Make the folder of an entry, after others made room for it, those used longest ago first.

    Args:
        entry: the folder.
        total: bytes of the whole entry.
        max_bytes: of all entries together.
    """
    entry.parent.mkdir(parents=True, exist_ok=True)
    with waiting_for(entry.parent / ".lock"):
        others = sorted((_last_use(folder), folder) for folder in entry.parent.iterdir() if folder.is_dir())
        sizes = {folder: _stated_size(folder) for _, folder in others if folder != entry}
        for _, folder in others:
            if sum(sizes.values()) <= max_bytes - total:
                break
            if folder in sizes:
                shutil.rmtree(folder, ignore_errors=True)
                del sizes[folder]
        entry.mkdir(exist_ok=True)
        with atomic_file(entry / SIZE, "w") as file:
            file.write(str(total))


def _last_use(folder: Path) -> int:
    """Return when an entry was last opened or written, in nanoseconds; 0 where it has just been removed."""
    try:
        return folder.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _stated_size(folder: Path) -> int:
    """Return the bytes that an entry takes when it is whole; 0 where nothing says so."""
    try:
        return int((folder / SIZE).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0
