"""Decoded images: each is decoded once, kept as uint8 in `.reprise/decoded/`, and shared by all stages.

An entry of the cache is one file, `<key>/pixels.bin`: the images one after the other, without a header, since sizes and
order follow from the shards' index. Its key is a hash of the shards, the rows, the channels and the size. One process
builds an entry under a lock while others wait and then use it; it is renamed into place whole. The cache is bounded:
an entry that does not fit is not written, and its images are decoded on access, with the same result. Deleting
`.reprise/` costs time and nothing else.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from reprise.artifacts.shards import Shards
from reprise.config.errors import ShardError
from reprise.media.lookup import modality
from reprise.storage.locks import waiting_for

CACHE = Path(".reprise/decoded")
MAX_BYTES = 4 << 30
IN_MEMORY_BYTES = 512 << 20  # larger entries are mapped
_VERSION = 2  # of the file's form and the decode rules; raising it makes every entry new
_CHUNK = 256  # images a task of a thread

Read = Callable[[int], np.ndarray]  # position -> (h, w, c) uint8


@dataclass(frozen=True)
class _Layout:
    """Where each image lies in an entry.

    Attributes:
        sizes: (n, 2) int64, height and width of each image in pixels.
        channels: bands; 1 and 3 suit grey and colour alike.
    """

    sizes: np.ndarray
    channels: int

    @cached_property
    def ends(self) -> np.ndarray:
        """Byte after each image, (n,) int64."""
        return np.cumsum(self.sizes[:, 0] * self.sizes[:, 1] * self.channels)

    @property
    def total(self) -> int:
        """Bytes of all images."""
        return int(self.ends[-1]) if len(self.ends) else 0

    def shape(self, i: int) -> tuple[int, int, int]:
        height, width = self.sizes[i].tolist()
        return height, width, self.channels

    def place(self, i: int) -> slice:
        """Bytes of image `i`."""
        height, width, channels = self.shape(i)
        end = int(self.ends[i])
        return slice(end - height * width * channels, end)


class Decoded:
    """Pixels of some rows of the shards, in the order of those rows.

    Attributes:
        uniform: (height, width) when all images have one size, else None.
        images: (n, h, w, c) uint8, read-only, when the images are uniform and cached, else None. Of a large entry it is
            a map of the file.
        cached: False when the images are decoded on access.
    """

    def __init__(self, read: Read, layout: _Layout, pixels: np.ndarray | None, threads: int) -> None:
        self._read, self._layout, self._pixels, self._threads = read, layout, pixels, threads
        self.cached = pixels is not None
        sizes = layout.sizes
        same = len(sizes) > 0 and bool((sizes == sizes[0]).all())
        self.uniform: tuple[int, int] | None = (int(sizes[0, 0]), int(sizes[0, 1])) if same else None
        self.images: np.ndarray | None = None
        if pixels is not None and self.uniform is not None:
            self.images = pixels.reshape(len(sizes), *self.uniform, layout.channels)

    def __len__(self) -> int:
        return len(self._layout.sizes)

    def image(self, i: int) -> np.ndarray:
        """Return image `i` as (h, w, c) uint8.

        Raises:
            IndexError: there are not so many.
        """
        if not -len(self) <= i < len(self):
            raise IndexError(f"image {i} of {len(self)}")
        i %= len(self)
        if self._pixels is None:
            return self._read(i)
        return np.asarray(self._pixels[self._layout.place(i)]).reshape(self._layout.shape(i))

    def resized(self, size: int, rows: Sequence[int] | None = None, **preparation: Any) -> np.ndarray:
        """Return images as squares, as networks see them: (n, size, size, c) uint8 in memory.

        Args:
            size: side in pixels; the shorter side is scaled to it, and the centre is cropped.
            rows: positions of the images, in the order wanted; None takes all.
            preparation: `crop_pct`, `interpolation` and `crop_mode` of a backbone's configuration.
        """
        whole = preparation.get("crop_pct", 1.0) == 1.0
        if self.images is not None and self.uniform == (size, size) and whole:
            return np.asarray(self.images if rows is None else self.images[np.asarray(rows, np.int64)])
        chosen = range(len(self)) if rows is None else rows
        media = modality()
        squares = np.empty((len(chosen), size, size, self._layout.channels), np.uint8)

        def fill(start: int) -> None:
            for i in range(start, min(start + _CHUNK, len(chosen))):
                squares[i] = media.resize_to_square(self.image(chosen[i]), size, **preparation)

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
    """Take the pixels of `rows` from the cache, or decode them now.

    Args:
        shards: the shards to read.
        rows: (n,) row numbers of the shards.
        channels: bands; 1 and 3 suit grey and colour alike.
        size: None keeps the size of each image; a number makes all of them (size, size), as `Decoded.resized` does.
        max_bytes: the cache folder stays below this; older entries make room, and a larger entry is not cached.
        threads: images decoded at the same time; the result does not depend on it.
        cache: folder of the entries.

    Raises:
        ShardError: a shard is truncated, or an image has another size than the index states.
        ImageRefused: stored bytes cannot be decoded.
    """
    rows = np.asarray(rows, dtype=np.int64)
    if size is None:
        sizes = np.stack([shards.heights[rows], shards.widths[rows]], axis=1)
    else:
        sizes = np.full((len(rows), 2), size, np.int64)
    layout, read = _Layout(sizes, channels), _reader(shards, rows, channels, size)
    if layout.total == 0 or layout.total > max_bytes:
        return Decoded(read, layout, None, threads)
    named = json.dumps([_VERSION, shards.fingerprint, hashlib.sha256(rows.tobytes()).hexdigest(), channels, size])
    folder = cache / hashlib.sha256(named.encode()).hexdigest()[:32]
    pixels = _load(folder, layout.total)
    if pixels is None:
        pixels = _build(folder, layout, read, max_bytes, threads)
    return Decoded(read, layout, pixels, threads)


def _reader(shards: Shards, rows: np.ndarray, channels: int, size: int | None) -> Read:
    """Make the function that decodes the image at a position of `rows`."""
    media = modality()

    def read(i: int) -> np.ndarray:
        row = int(rows[i])
        where = f"{shards.directory}: key {shards.keys[row]}"
        pixels = media.decode(shards.read(row), where, channels)
        if pixels.shape[:2] != (shards.heights[row], shards.widths[row]):  # it would overwrite its neighbour's bytes
            raise ShardError(
                "a stored image has another size than the index says",
                where=where,
                found=f"{pixels.shape[1]} x {pixels.shape[0]} pixels",
                fix="Run `dvc repro --force shard` to write the shards again.",
            )
        return pixels if size is None else media.resize_to_square(pixels, size)

    return read


def _load(folder: Path, total: int) -> np.ndarray | None:
    """Read or map the cached pixels, read-only; None when there are none, or not as many as there should be.

    Small entries are read whole. The kernel ends a process (SIGBUS) that reads a memory map beyond the end of its file,
    and another program may cut the file at any time.
    """
    path = folder / "pixels.bin"
    try:
        if path.stat().st_size != total:
            return None
        os.utime(folder)  # the time of last use, by which `_make_room` chooses
        if total > IN_MEMORY_BYTES:
            return np.memmap(path, np.uint8, "r", shape=(total,))
        pixels = np.fromfile(path, np.uint8)
    except FileNotFoundError:
        return None
    pixels.setflags(write=False)
    return pixels if len(pixels) == total else None  # the file may have been cut since its size was asked


def _build(folder: Path, layout: _Layout, read: Read, max_bytes: int, threads: int) -> np.ndarray | None:
    """Decode all images into a new entry; None when the disk has no room for it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".partial-{folder.name}")
    # The lock lies beside the entry, not inside: it must exist before the entry and outlive its removal.
    with waiting_for(folder.with_name(f".lock-{folder.name}")):
        pixels = _load(folder, layout.total)  # another process may have built it while this one waited
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

            def fill(start: int) -> None:
                for i in range(start, min(start + _CHUNK, len(layout.sizes))):
                    pixels[layout.place(i)] = read(i).reshape(-1)

            _in_threads(fill, len(layout.sizes), threads)
            pixels.flush()
            os.replace(partial, folder)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            return None  # the work goes on without a cache
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return _load(folder, layout.total)


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


def _in_threads(fill: Callable[[int], None], count: int, threads: int) -> None:
    """Call `fill(start)` for every chunk of `count` images; the first error stops the others.

    Threads suffice, since OpenCV releases Python's lock while it decodes and scales.
    """
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
