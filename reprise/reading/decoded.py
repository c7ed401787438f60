"""Decoded images: each is decoded once, kept as uint8 in `.reprise/decoded/`, and shared by all stages.

Images are kept in one of three forms: as they are stored; with their shorter side scaled down to what the smallest crop
of a training needs; or as the squares that networks see when they are evaluated. JPEG files that are much larger than
the form are decoded at a half, a quarter or an eighth of their sides, which takes a fraction of the time.

The key of an entry is a hash of the shards, the rows, the channels and the form. The cache is bounded on the disk and
in memory: an entry that does not fit is not written, and its images are decoded on the way, with the same result.
Deleting `.reprise/` costs time and nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np

from reprise.artifacts.shards import Shards
from reprise.config.errors import ShardError
from reprise.media.lookup import modality
from reprise.reading.entry import Layout, build_entry, in_threads, load_entry
from reprise.reading.words import bytes_in_words, say

CACHE = Path(".reprise/decoded")
MAX_BYTES = 4 << 30
IN_MEMORY_BYTES = 512 << 20  # larger entries are mapped
OVERSAMPLING = 2  # an image is decoded at a reduced scale where that leaves this many times the side of the square
_VERSION = 3  # of the file's form and the decode rules; raising it makes every entry new
_FEW = 16  # images a task of a thread, where a batch is scaled
_REDUCTIONS = (8, 4, 2)


@dataclass(frozen=True)
class Form:
    """The form in which images are kept.

    Attributes:
        size: a number makes all images (size, size), as networks see them; None keeps their aspect.
        shorter: a shorter side above this is scaled down to it; None keeps the size. Squares leave it out.
        preparation: of squares: `crop_pct`, `interpolation` and `crop_mode` of a backbone's configuration.
        modality: the kind of all images. Of volumes, `size` makes cubes, and `shorter` concerns the shortest side.
    """

    size: int | None = None
    shorter: int | None = None
    preparation: dict[str, Any] = field(default_factory=dict)
    modality: str = "image"

    def sizes(self, stored: np.ndarray) -> np.ndarray:
        """Return the sides in this form of images whose stored sides are given: (n, a) int64, a axes."""
        if self.size is not None:
            return np.full(stored.shape, self.size, np.int64)
        if self.shorter is None:
            return stored
        shortest = stored.min(axis=1, keepdims=True)
        return np.where(
            shortest > self.shorter, np.maximum(1, stored * self.shorter // np.maximum(shortest, 1)), stored
        )

    def reduction(self, sides: tuple[int, ...]) -> int:
        """Return by how much a JPEG file of these sides may be reduced while it is decoded: 1, 2, 4 or 8."""
        if self.size is not None:
            needed = OVERSAMPLING * int(self.size / self.preparation.get("crop_pct", 1.0))
        elif self.shorter is not None:
            needed = self.shorter
        else:
            return 1
        return next((by for by in _REDUCTIONS if min(sides) // by >= needed), 1)

    def made(self, pixels: np.ndarray, sides: Sequence[int], extent: tuple[float, float] | None = None) -> np.ndarray:
        """Bring decoded pixels to this form, whose sides are given; `extent`: see `transform.resize`."""
        media = modality(self.modality)
        if self.size is not None:
            return media.resize_to_square(pixels, self.size, **self.preparation, extent=extent)
        return pixels if self.shorter is None else media.resize(pixels, sides, extent)


@dataclass(frozen=True)
class Place:
    """Where decoded images are kept, and how much of them.

    Attributes:
        folder: of the entries.
        max_bytes: the folder stays below this; older entries make room, and a larger entry is not cached.
        memory_bytes: an entry of at most this size is read into memory; a larger one is mapped.
        threads: images decoded at the same time; the result does not depend on it.
    """

    folder: Path
    max_bytes: int
    memory_bytes: int
    threads: int


class Decoded:
    """Pixels of some rows of the shards, in the order of those rows. Nothing is decoded before pixels are asked for."""

    def __init__(self, shards: Shards, rows: np.ndarray, channels: int, form: Form, place: Place) -> None:
        self._shards, self._rows, self._at = shards, np.asarray(rows, dtype=np.int64), place
        self._form = replace(form, modality=shards.modality)
        self._layout = Layout(self._form.sizes(shards.sides[self._rows]), channels)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def channels(self) -> int:
        """Bands of each image."""
        return self._layout.channels

    @property
    def sizes(self) -> np.ndarray:
        """Height and width of each image in pixels: (n, 2) int64; (n, 3) with the depth of volumes before them."""
        return self._layout.sizes

    @cached_property
    def uniform(self) -> tuple[int, ...] | None:
        """(height, width) when all images have one size, (depth, height, width) of volumes; else None."""
        sizes = self._layout.sizes
        same = len(sizes) > 0 and bool((sizes == sizes[0]).all())
        return tuple(sizes[0].tolist()) if same else None

    @property
    def cached(self) -> bool:
        """False when the images are decoded on the way."""
        return self._pixels is not None

    def prepare(self) -> None:
        """Decode all images into the cache now, unless they are there or do not fit."""
        _ = self._pixels

    @cached_property
    def images(self) -> np.ndarray | None:
        """(n, h, w, c) uint8, read-only, when the images are uniform and cached, else None; a map of a large entry.

        Volumes are (n, d, h, w, c).
        """
        if self._pixels is None or self.uniform is None:
            return None
        return self._pixels.reshape(len(self), *self.uniform, self._layout.channels)

    def image(self, i: int) -> np.ndarray:
        """Return image `i` as (h, w, c) uint8, or (d, h, w, c).

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
        if self.uniform == self._square(size) and whole and self.images is not None:
            return np.asarray(self.images if rows is None else self.images[np.asarray(rows, np.int64)])
        chosen = range(len(self)) if rows is None else rows
        media = modality(self._form.modality)
        squares = np.empty((len(chosen), *self._square(size), self._layout.channels), np.uint8)

        def fill(i: int) -> None:
            squares[i] = media.resize_to_square(self.image(chosen[i]), size, **preparation)

        in_threads(fill, len(chosen), self._at.threads, _FEW)
        return squares

    def _square(self, size: int) -> tuple[int, ...]:
        """Return the sides of a square, or of a cube where the images are volumes."""
        return (size,) * self._layout.sizes.shape[1]

    def shrunk(self, shorter: int) -> Decoded:
        """Return the same images with shorter sides above `shorter` pixels scaled down to that."""
        return Decoded(self._shards, self._rows, self._layout.channels, Form(shorter=shorter), self._at)

    def squares(self, size: int, **preparation: Any) -> np.ndarray:
        """Return all images as squares: the same values as `resized`, but not all of them in memory.

        The entry of the cache holds all rows of the shards, so that every stage and every split uses the same one.

        Args:
            size, preparation: as for `resized`.

        Returns:
            (n, size, size, c) uint8: an array, a map of a file, or `Squares`, which can be read like one.
        """
        channels, form = self._layout.channels, Form(size, preparation=preparation)
        everything = Decoded(self._shards, self._shards.rows(), channels, form, self._at)
        if everything.images is None:
            return cast(np.ndarray, Squares(everything, self._rows, (*self._square(size), channels)))
        first = int(self._rows[0]) if len(self) else 0
        if np.array_equal(self._rows, np.arange(first, first + len(self))):  # a split is: no copy
            return everything.images[first : first + len(self)]
        return everything.images[self._rows]

    @cached_property
    def _pixels(self) -> np.ndarray | None:
        """All images one after the other, from the cache or decoded into it now; None where they do not fit."""
        total, at = self._layout.total, self._at
        if total == 0:
            return None
        if total > at.max_bytes:
            if at.max_bytes:
                say(
                    f"{len(self):,} decoded images would take {bytes_in_words(total)}, more than cache.max_bytes "
                    f"({bytes_in_words(at.max_bytes)}): they are decoded on the way, whenever they are needed"
                )
            return None
        folder = at.folder / self._key()
        pixels = load_entry(folder, total, at.memory_bytes)
        if pixels is not None:
            return pixels
        shared = self._of_all_rows()
        if shared is not None:
            return shared
        size, most = bytes_in_words(total), bytes_in_words(at.max_bytes)
        say(f"{len(self):,} decoded images take {size} of {most} in {at.folder}")
        return build_entry(folder, self._layout, self._read, at.max_bytes, at.memory_bytes, at.threads)

    def _of_all_rows(self) -> np.ndarray | None:
        """Take these images from the entry of all rows; None where they have one of their own.

        Where all images have the size of the squares, both forms are the same, and the images are decoded once.
        """
        shards, first, n = self._shards, int(self._rows[0]), len(self)
        contiguous = n < len(shards) and np.array_equal(self._rows, np.arange(first, first + n))
        everything = Decoded(shards, shards.rows(), self._layout.channels, self._form, self._at)
        if not contiguous or everything.uniform is None or not (self._unchanged() and everything._unchanged()):
            return None
        if everything._layout.total > self._at.max_bytes or everything.images is None:
            return None
        return everything.images[first : first + n].reshape(-1)

    def _key(self) -> str:
        form = Form() if self._unchanged() else self._form
        rows = hashlib.sha256(self._rows.tobytes()).hexdigest()
        kept = [form.size, form.shorter, form.preparation]
        named = json.dumps([_VERSION, self._shards.fingerprint, rows, self._layout.channels, kept], sort_keys=True)
        return hashlib.sha256(named.encode()).hexdigest()[:32]

    def _unchanged(self) -> bool:
        """Return whether this form is that of the stored images themselves."""
        return not self._form.preparation and np.array_equal(self._layout.sizes, self._shards.sides[self._rows])

    def _read(self, i: int) -> np.ndarray:
        """Decode the image at a position of the rows, in the form wanted."""
        row = int(self._rows[i])
        sides = self._shards.sides_of(row)
        where, by = f"{self._shards.directory}: key {self._shards.keys[row]}", self._form.reduction(sides)
        pixels = modality(self._form.modality).decode(self._shards.read(row), where, self._layout.channels, by)
        whole = pixels.shape[:-1] == sides
        if not whole and pixels.shape[:-1] != tuple(-(-side // by) for side in sides):
            # It would overwrite its neighbour's bytes.
            raise ShardError(
                "a stored image has another size than the index says",
                where=where,
                found=f"{' x '.join(map(str, reversed(pixels.shape[:-1])))} pixels",
                fix="Run `dvc repro --force shard` to write the shards again.",
            )
        extent = None if whole or by == 1 else (sides[0] / by, sides[1] / by)
        return self._form.made(pixels, self._layout.sizes[i].tolist(), extent)


class Squares:
    """Squares that are decoded when they are read: (n, S, S, C) uint8 by numbers, slices and arrays of integers.

    Of volumes they are cubes: (n, S, S, S, C).

    Attributes:
        shape, dtype, ndim: as of an array.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, decoded: Decoded, rows: np.ndarray, shape: tuple[int, ...]) -> None:
        self._decoded, self._rows, self.shape, self.ndim = decoded, rows, (len(rows), *shape), 1 + len(shape)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, chosen: Any) -> np.ndarray:
        rows = self._rows[chosen]
        if np.ndim(rows) == 0:
            return self._decoded.image(int(rows))
        return self._decoded.resized(self.shape[1], rows.tolist())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)


def open_decoded(
    shards: Shards,
    rows: np.ndarray,
    channels: int,
    size: int | None = None,
    max_bytes: int = MAX_BYTES,
    threads: int = 1,
    cache: Path = CACHE,
    memory_bytes: int | None = None,
    at_once: bool = True,
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
        memory_bytes: an entry of at most this size is read into memory; a larger one is mapped.
        at_once: False decodes nothing before pixels are asked for, which may never happen in this form.

    Raises:
        ShardError: a shard is truncated, or an image has another size than the index states.
        ImageRefused: stored bytes cannot be decoded.
    """
    place = Place(cache, max_bytes, IN_MEMORY_BYTES if memory_bytes is None else memory_bytes, threads)
    decoded = Decoded(shards, rows, channels, Form(size), place)
    if at_once:
        decoded.prepare()
    return decoded
