"""Read IDX files, as MNIST and data sets in its form come: a magic number, sides, unsigned bytes; gzip or not."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from reprise.config.errors import ImageRefused, SourceError
from reprise.storage.listing import open_regular
from stages.ingest.known.official_files import OfficialFile, extent_of, locate, unreadable
from stages.ingest.source import Candidate, Encoded, Extent, Refused, Source

if TYPE_CHECKING:
    import numpy as np

_MOST_BYTES = 1 << 30  # of the values of one file; MNIST's images have 47 million
_LONGEST_SIDE = 4096
_SMALL, _MOST_RATIO = 1 << 20, 200  # values; more may not come from so many times fewer packed bytes (MNIST: 5)
_GZIP = b"\x1f\x8b"
_OPEN = 2  # packed files that a process keeps unpacked: images of two splits
_FILES = {"train": ("train", 60_000), "test": ("t10k", 10_000)}  # split -> prefix, official number of images


@dataclass(frozen=True)
class IdxImage(Encoded):
    """An image of an IDX file.

    Attributes:
        path: of the file.
        index: number of the image, from 0.
        stamp: size and time of the file when it was listed.
    """

    path: str
    index: int
    stamp: tuple[int, int]
    made: ClassVar[bool] = True

    def read(self, limit: int) -> bytes:
        """Return the image as a PNG without compression."""
        from reprise.media.image.encode import uncompressed_png

        if stamp_of(self.path) != self.stamp:
            raise ImageRefused("changed_while_reading", where=self.path, found="another file", fix="Run again.")
        try:
            return uncompressed_png(_image(self.path, self.index, self.stamp))
        except SourceError as error:
            raise ImageRefused("unreadable", where=self.path, found=error.found, fix=error.fix) from error


class IdxSource(Source):
    """Data sets of four IDX files, by the names that MNIST gave them; official training and test splits.

    Attributes:
        address_of_files: where people fetch the files.
        classes: name of each label.
    """

    address_of_files: ClassVar[str]
    classes: ClassVar[tuple[str, ...]]
    keeps_names: ClassVar[bool] = True
    views: ClassVar[dict[str, Any]] = {
        "crop_scale_min": 0.3,
        "flip": False,
        "jitter": 0.4,
        "grey": 0.0,
        "blur": 0.0,
        "solarize": 0.0,
    }

    def __init__(self, root: Path, options: Any) -> None:
        super().__init__(root, options)
        self._understood: list[str] = []

    def candidates(self) -> Iterator[Candidate | Refused]:
        """Yield the images of train, then those of test, in the order of the files."""
        files, counts = self._files(), {}
        for split, (prefix, official) in _FILES.items():
            images, labels = files[f"{prefix}-images-idx3-ubyte"], files[f"{prefix}-labels-idx1-ubyte"]
            numbers = read_idx(labels, 1).tolist()
            count = _count(images)
            if count != len(numbers):
                raise unreadable(images, f"{count:,} images, and {len(numbers):,} labels in {labels.name}")
            if count != official:
                counts[split] = f"{count:,} images of {split}, where the data set of that name has {official:,}"
            yield from self._images(images, numbers, split)
        train, test = (files[f"{prefix}-images-idx3-ubyte"].name for prefix, _ in _FILES.values())
        self._understood = [
            f"Train and test are the files {train} and {test}; val is taken from train.",
            *(f"These are {text}." for text in counts.values()),
        ]

    def understood(self) -> list[str]:
        """Say which files are which split, and whether they have the official number of images."""
        return self._understood

    def extent(self) -> Extent:
        """Hash the four files as they lie there, packed or not."""
        return extent_of(self._files())

    def _files(self) -> dict[str, Path]:
        names = [
            f"{prefix}-{kind}" for prefix, _ in _FILES.values() for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
        ]
        return locate(
            self.root,
            [OfficialFile(n, self.address_of_files, (f"{n}.gz", n.replace("-idx", ".idx"))) for n in names],
        )

    def _images(self, path: Path, labels: Sequence[int], split: str) -> Iterator[Candidate | Refused]:
        stamp = stamp_of(path)
        for i, label in enumerate(labels):
            name = f"{path.name}/{i:06d}.png"
            if label < len(self.classes):
                yield Candidate(name, IdxImage(str(path), i, stamp), split, self.classes[label])
            else:
                detail = f"its label is {label}, and the classes have the numbers 0 to {len(self.classes) - 1}"
                yield Refused(name, "unknown_label", detail)


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Return the values of an IDX file of unsigned bytes.

    Args:
        path: the file, packed with gzip or not.
        dimensions: 1 for labels, 3 for images.

    Raises:
        SourceError: it is damaged, too large, or an IDX file of another kind.
    """
    import numpy as np

    with _opened(path) as (content, packed, length):
        sides = _sides(content.read(_header(dimensions)), dimensions)
        size = math.prod(sides)
        if packed and size > max(_SMALL, _MOST_RATIO * length):
            raise ValueError(f"{size:,} values from {length:,} packed bytes")
        values = content.read(size)
        _same(len(values) + (len(content.read(1)) if len(values) == size else 0), size)
    return np.frombuffer(values, np.uint8).reshape(sides)


def _count(path: Path) -> int:
    """Return the number of images in a file, all of which are there; one that is not packed is not read for it.

    Raises:
        SourceError: as `read_idx`.
    """
    with _opened(path) as (content, packed, length):
        if not packed:
            sides = _sides(content.read(_header(3)), 3)
            _same(length - _header(3), math.prod(sides))
            return sides[0]
    return len(_unpacked(str(path), stamp_of(path)))


def _image(path: str, index: int, stamp: tuple[int, int]) -> np.ndarray:
    """Return one image, (h, w) uint8."""
    import numpy as np

    with _opened(Path(path)) as (content, packed, _):
        if not packed:
            _, height, width = _sides(content.read(_header(3)), 3)
            content.seek(_header(3) + index * height * width)
            values = content.read(height * width)
            _same(len(values), height * width)
            return np.frombuffer(values, np.uint8).reshape(height, width)
    image: np.ndarray = _unpacked(path, stamp)[index]
    return image


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, bool, int]]:
    """Yield the content of a file, whether it is packed, and the length of the file as it lies there.

    Raises:
        SourceError: whatever goes wrong while it is read.
    """
    try:
        with open_regular(path) as descriptor, open(descriptor, "rb", closefd=False) as file:
            packed = file.read(2) == _GZIP
            file.seek(0)
            with gzip.GzipFile(fileobj=file) if packed else file as content:
                yield content, packed, os.fstat(descriptor).st_size
    except ImageRefused as refusal:
        raise unreadable(path, refusal.found) from refusal
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise unreadable(path, str(error) or type(error).__name__) from error


def _same(found: int, announced: int) -> None:
    """Raise a ValueError where a file has fewer or more values than its header announces."""
    if found < announced:
        raise ValueError(f"{found:,} of the {announced:,} values that its header announces")
    if found > announced:
        raise ValueError(f"more than the {announced:,} values that its header announces")


def _header(dimensions: int) -> int:
    return 4 + 4 * dimensions


def stamp_of(path: str | Path) -> tuple[int, int]:
    """Return size and time of a file, by which a change is noticed."""
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


@lru_cache(maxsize=_OPEN)
def _unpacked(path: str, stamp: tuple[int, int]) -> np.ndarray:
    return read_idx(Path(path), 3)


def _sides(header: bytes, dimensions: int) -> tuple[int, ...]:
    """Read the sides from a header.

    Raises:
        ValueError: it is the header of something else, or announces too much.
    """
    magic = bytes((0, 0, 8, dimensions))
    if header[:4] != magic:
        raise ValueError(f"the first bytes {header[:4].hex()}, where this file begins with {magic.hex()}")
    if len(header) < _header(dimensions):
        raise ValueError("a header that ends too early")
    sides = struct.unpack(f">{dimensions}I", header[4:])
    if math.prod(sides) > _MOST_BYTES or max(sides[1:], default=1) > _LONGEST_SIDE or 0 in sides:
        raise ValueError(f"{' x '.join(map(str, sides))} values, more than any such file has, or none")
    return sides
