"""Decoded images: each is decoded once, kept as uint8 in `.reprise/decoded/`, and shared by all stages.

The cache is keyed by the shards, the rows, the channels and the size, built under a lock (one process builds,
the others wait and use it), renamed into place whole, and bounded in size: what does not fit is decoded on
access, with the same result. Deleting `.reprise/` costs time and nothing else.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from reprise.artifacts.shards import Shards
from reprise.config.errors import ShardError
from reprise.media.lookup import modality

CACHE = Path(".reprise/decoded")
MAX_BYTES = 4 << 30
_IN_MEMORY_BYTES = 512 << 20  # larger ones are mapped
_VERSION = 1  # of the file layout and the decode rules
_CHUNK = 256  # images per task


class Decoded:
    """Pixels of some rows of the shards, in the order of those rows.

    Attributes:
        uniform: (height, width) when all images have one size, else None.
        images: (n, h, w, c) uint8 when uniform and cached, else None; read-only, mapped from the file if it is large.
        cached: False when the images are decoded on access.
    """

    def __init__(
        self,
        read: Callable[[int], np.ndarray],
        sizes: np.ndarray,
        channels: int,
        pixels: np.ndarray | None,
        threads: int,
    ) -> None:
        self._read, self._sizes, self._channels, self._threads = read, sizes, channels, threads
        self._ends = np.cumsum(sizes[:, 0] * sizes[:, 1] * channels)
        self._pixels = pixels
        self.cached = pixels is not None
        same = len(sizes) > 0 and bool((sizes == sizes[0]).all())
        self.uniform: tuple[int, int] | None = (int(sizes[0, 0]), int(sizes[0, 1])) if same else None
        self.images: np.ndarray | None = None
        if pixels is not None and self.uniform is not None:
            self.images = pixels.reshape(len(sizes), *self.uniform, channels)

    def __len__(self) -> int:
        return len(self._sizes)

    def image(self, i: int) -> np.ndarray:
        """Image `i` as (h, w, c) uint8."""
        if not -len(self) <= i < len(self):
            raise IndexError(f"image {i} of {len(self)}")
        i %= len(self)
        if self._pixels is None:
            return self._read(i)
        height, width = self._sizes[i]
        end = self._ends[i]
        return np.asarray(self._pixels[end - height * width * self._channels : end]).reshape(
            height, width, self._channels
        )

    def resized(self, size: int, rows: Sequence[int] | None = None) -> np.ndarray:
        """Images as squares: shorter side scaled to `size`, centre cut; (n, size, size, c) uint8 in memory.

        Args:
            rows: which images, and in which order; None is all of them.
        """
        if self.images is not None and self.uniform == (size, size):
            return np.asarray(self.images if rows is None else self.images[np.asarray(rows, np.int64)])
        chosen = range(len(self)) if rows is None else rows
        media = modality()
        squares = np.empty((len(chosen), size, size, self._channels), np.uint8)

        def fill(start: int) -> None:
            for i in range(start, min(start + _CHUNK, len(chosen))):
                squares[i] = media.resize_to_square(self.image(chosen[i]), size)

        _in_threads(fill, len(chosen), self._threads)
        return squares


def open_decoded(
    shards: Shards,
    rows: np.ndarray,
    channels: int,
    size: int | None = None,
    max_bytes: int = MAX_BYTES,
    threads: int = 1,
    cache: Path = CACHE,
) -> Decoded:
    """Pixels of `rows`, from the cache or decoded now.

    Args:
        rows: (n,) row numbers of the shards.
        channels: 1 or 3.
        size: None keeps each image's own size; a number makes all of them (size, size) as `Decoded.resized` does.
        max_bytes: the cache folder stays below this; older entries make room, and what is larger is not cached.
        threads: decoders side by side; the result does not depend on it.

    Raises:
        ShardError: a shard is truncated. ImageRefused: stored bytes cannot be decoded.
    """
    rows = np.asarray(rows, dtype=np.int64)
    if size is None:
        sizes = np.stack([shards.heights[rows], shards.widths[rows]], axis=1)
    else:
        sizes = np.full((len(rows), 2), size, np.int64)
    total = int((sizes[:, 0] * sizes[:, 1]).sum()) * channels
    media = modality()

    def read(i: int) -> np.ndarray:
        row = int(rows[i])
        where = f"{shards.directory}: key {shards.keys[row]}"
        pixels = media.decode(shards.read(row), where, channels)
        if pixels.shape[:2] != (shards.heights[row], shards.widths[row]):
            raise ShardError(
                "a stored image has another size than the index says",
                where=where,
                found=f"{pixels.shape[1]} x {pixels.shape[0]} pixels",
                fix="Run `dvc repro --force shard` to write the shards again.",
            )
        return pixels if size is None else media.resize_to_square(pixels, size)

    if total == 0 or total > max_bytes:
        return Decoded(read, sizes, channels, None, threads)
    named = json.dumps([_VERSION, shards.fingerprint, hashlib.sha256(rows.tobytes()).hexdigest(), channels, size])
    folder = cache / hashlib.sha256(named.encode()).hexdigest()[:32]
    pixels = _map(folder, total)
    if pixels is None:
        pixels = _build(folder, total, max_bytes, read, sizes, channels, threads)
    return Decoded(read, sizes, channels, pixels, threads)


def _map(folder: Path, total: int) -> np.ndarray | None:
    """The cached pixels, read-only, or None when there are none or not as many as there should be.

    Small ones are read whole: the kernel ends (SIGBUS) whoever looks at a memory map beyond a file's end, and
    something else may cut the file at any time.
    """
    path = folder / "pixels.bin"
    try:
        if path.stat().st_size != total:
            return None
        os.utime(folder)  # last use, for pruning
        if total > _IN_MEMORY_BYTES:
            return np.memmap(path, np.uint8, "r", shape=(total,))
        pixels = np.fromfile(path, np.uint8)
    except FileNotFoundError:
        return None
    pixels.setflags(write=False)
    return pixels if len(pixels) == total else None


def _build(
    folder: Path,
    total: int,
    max_bytes: int,
    read: Callable[[int], np.ndarray],
    sizes: np.ndarray,
    channels: int,
    threads: int,
) -> np.ndarray | None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".partial-{folder.name}")
    with open(folder.with_name(f".lock-{folder.name}"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        pixels = _map(folder, total)  # another process may have built it while this one waited
        if pixels is not None:
            return pixels
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(partial, ignore_errors=True)
        _make_room(folder.parent, max_bytes - total)
        try:
            partial.mkdir()
            with open(partial / "pixels.bin", "wb") as file:
                os.posix_fallocate(file.fileno(), 0, total)
            pixels = np.memmap(partial / "pixels.bin", np.uint8, "r+", shape=(total,))
            ends = np.cumsum(sizes[:, 0] * sizes[:, 1] * channels)

            def fill(start: int) -> None:
                for i in range(start, min(start + _CHUNK, len(sizes))):
                    flat = read(i).reshape(-1)
                    pixels[ends[i] - len(flat) : ends[i]] = flat

            _in_threads(fill, len(sizes), threads)
            pixels.flush()
            os.replace(partial, folder)
        except OSError as error:  # a cache may fail; the work may not
            shutil.rmtree(partial, ignore_errors=True)
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            return None
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return _map(folder, total)


def _make_room(cache: Path, allowed: int) -> None:
    """Drop the entries that were used longest ago until the rest takes at most `allowed` bytes."""
    entries = []
    for pixels in cache.glob("*/pixels.bin"):
        try:
            entries.append((pixels.parent.stat().st_mtime_ns, pixels.stat().st_size, pixels.parent))
        except FileNotFoundError:
            continue
    held = sum(size for _, size, _ in entries)
    for _, size, entry in sorted(entries):
        if held <= allowed:
            break
        if not entry.name.startswith("."):  # another process builds a partial one
            shutil.rmtree(entry, ignore_errors=True)
            held -= size


def _in_threads(fill: Callable[[int], None], count: int, threads: int) -> None:
    """Call `fill(start)` for every chunk; the first error stops the rest."""
    modality().limit_threads()
    starts = range(0, count, _CHUNK)
    if threads <= 1 or len(starts) <= 1:
        for start in starts:
            fill(start)
        return
    with ThreadPoolExecutor(threads) as pool:
        try:
            for _ in pool.map(fill, starts):
                pass
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
