"""An entry of the cache of decoded images: one file, `<key>/pixels.bin`, built once and used by all stages.

The file holds the images one after the other, without a header, since sizes and order follow from the shards' index.
One process builds an entry under a lock while others wait and then use it; it is renamed into place whole. The folder
is bounded: entries that were used longest ago make room.
"""

from __future__ import annotations

import errno
import math
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from reprise.media.lookup import modality
from reprise.storage.locks import waiting_for
from reprise.storage.progress import Progress

Read = Callable[[int], np.ndarray]  # position -> (h, w, c) uint8
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the work goes on without a cache
_CHUNK = 256  # images a task of a thread
_SMALL = 64 * 64  # pixels; below, threads wait for Python's lock longer than they decode


@dataclass(frozen=True)
class Layout:
    """Where each image lies in an entry.

    Attributes:
        sizes: (n, 2) int64, height and width of each image in pixels; (n, 3) with the depth of volumes before them.
        channels: bands; 1 and 3 suit grey and colour alike.
    """

    sizes: np.ndarray
    channels: int

    @cached_property
    def ends(self) -> np.ndarray:
        """Byte after each image, (n,) int64."""
        return np.cumsum(self.sizes.prod(axis=1) * self.channels)

    @property
    def total(self) -> int:
        """Bytes of all images."""
        return int(self.ends[-1]) if len(self.ends) else 0

    def shape(self, i: int) -> tuple[int, ...]:
        """Height, width and bands of image `i`, with the depth before them where there is one."""
        return (*self.sizes[i].tolist(), self.channels)

    def place(self, i: int) -> slice:
        """Bytes of image `i`."""
        end = int(self.ends[i])
        return slice(end - math.prod(self.shape(i)), end)


def load_entry(folder: Path, total: int, memory_bytes: int) -> np.ndarray | None:
    """Read or map the cached pixels, read-only; None when there are none, or not as many as there should be.

    Small entries are read whole. The kernel ends a process (SIGBUS) that reads a memory map beyond the end of its file,
    and another program may cut the file at any time.

    Args:
        folder: of the entry.
        total: bytes that it should have.
        memory_bytes: larger entries are mapped.
    """
    path = folder / "pixels.bin"
    try:
        if path.stat().st_size != total:
            return None
        os.utime(folder)  # the time of last use, by which `_make_room` chooses
        if total > memory_bytes:
            return np.memmap(path, np.uint8, "r", shape=(total,))
        pixels = np.fromfile(path, np.uint8)
    except FileNotFoundError:
        return None
    pixels.setflags(write=False)
    return pixels if len(pixels) == total else None  # the file may have been cut since its size was asked


def build_entry(
    folder: Path, layout: Layout, read: Read, max_bytes: int, memory_bytes: int, threads: int
) -> np.ndarray | None:
    """Decode all images into a new entry; None when the disk has no room for it.

    Args:
        folder: of the entry.
        layout: where each image goes.
        read: decodes an image.
        max_bytes: the folder of all entries stays below this.
        memory_bytes: as for `load_entry`.
        threads: images decoded at the same time.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".partial-{folder.name}")
    # The lock lies beside the entry, not inside: it must exist before the entry and outlive its removal.
    with waiting_for(folder.with_name(f".lock-{folder.name}")):
        pixels = load_entry(folder, layout.total, memory_bytes)  # another process may have built it meanwhile
        if pixels is not None:
            return pixels
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(partial, ignore_errors=True)
        _make_room(folder.parent, max_bytes - layout.total)
        try:
            partial.mkdir()
            with open(partial / "pixels.bin", "wb") as file:
                # Reserve the space now: a disk that fills up is an error here, but SIGBUS when a map is written to.
                os.posix_fallocate(file.fileno(), 0, layout.total)
            pixels = np.memmap(partial / "pixels.bin", np.uint8, "r+", shape=(layout.total,))

            def fill(i: int) -> None:
                pixels[layout.place(i)] = read(i).reshape(-1)

            if layout.total < _SMALL * layout.channels * len(layout.sizes):
                threads = 1
            with Progress("decode", len(layout.sizes)) as progress:
                in_threads(fill, len(layout.sizes), threads, done=progress.advance)
            pixels.flush()
            os.replace(partial, folder)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            if error.errno not in DISK_FULL:
                raise
            return None
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return load_entry(folder, layout.total, memory_bytes)


def _make_room(cache: Path, allowed: int) -> None:
    """Drop the entries that were used longest ago until the others take at most `allowed` bytes."""
    entries = []
    for pixels in cache.glob("*/pixels.bin"):
        try:
            entries.append((pixels.parent.stat().st_mtime_ns, pixels.stat().st_size, pixels.parent))
        except FileNotFoundError:  # another process dropped it
            continue
    used = sum(size for _, size, _ in entries)
    for _, size, entry in sorted(entries):
        if used <= allowed:
            break
        if not entry.name.startswith("."):  # another process is building a partial one
            shutil.rmtree(entry, ignore_errors=True)
            used -= size


def in_threads(
    work: Callable[[int], None],
    count: int,
    threads: int,
    chunk: int = _CHUNK,
    done: Callable[[int], None] = lambda count: None,
) -> None:
    """Call `work(i)` for i from 0 to `count` - 1, `chunk` of them a task; the first error stops the others.

    Threads suffice, since OpenCV and Pillow release Python's lock while they decode and scale. `done` gets the number
    of calls that have ended since it was last called.
    """
    modality().limit_threads()

    def some(numbers: range) -> int:
        for i in numbers:
            work(i)
        return len(numbers)

    tasks = [range(start, min(start + chunk, count)) for start in range(0, count, chunk)]
    if threads <= 1 or len(tasks) <= 1:
        for task in tasks:
            done(some(task))
        return
    with ThreadPoolExecutor(threads) as pool:
        try:
            for ended in pool.map(some, tasks):
                done(ended)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
