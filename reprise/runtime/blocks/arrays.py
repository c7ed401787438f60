"""Arrays that blocks of rows share: a file in the stage's folder, from which each worker maps the rows of its block."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from reprise.config.errors import MachineError
from reprise.runtime.blocks.use import cluster
from reprise.storage.atomic import explained_storage

LEAST_WORK = 1 << 36  # multiplications; fewer are done before workers have loaded torch
BLOCK_WORK = 1 << 34  # multiplications that are worth a block: about a second of one core
BLOCK_BYTES = 32 << 20  # of the result of a block
_numbers = itertools.count()
_files: weakref.WeakValueDictionary[int, _Owner] = weakref.WeakValueDictionary()  # by the identity of an array


@dataclass(frozen=True)
class Published:
    """An array in a file; cheap to send.

    Attributes:
        path: of the file, from the project's folder.
        shape: of the array.
    """

    path: str
    shape: tuple[int, ...]

    def open(self) -> np.ndarray:
        """Map the file; a change of the array changes no file.

        Raises:
            MachineError: the file is not the one that was published.
        """
        try:
            found = np.load(self.path, mmap_mode="c", allow_pickle=False)
        except (OSError, ValueError) as error:
            found, said = None, str(error)
        else:
            said = f"shape {found.shape}, not {self.shape}"
        if found is None or found.shape != self.shape:
            raise MachineError(
                "a worker cannot read what the stage has written",
                where=self.path,
                found=said,
                fix="Let all machines see the project's folder under the same path, with the same content.",
            )
        return found


class _Owner:
    """Ends with the array that was published, and removes the file."""

    def __init__(self, published: Published) -> None:
        self.published = published
        weakref.finalize(self, partial(Path(published.path).unlink, missing_ok=True))


def publish(folder: Path, array: np.ndarray) -> Published:
    """Write an array to a file for as long as the array lives, unless that was done before."""
    owner = _files.get(id(array))
    if owner is None or not owner.published.path.startswith(folder.as_posix()):
        path = folder / f"{next(_numbers)}.npy"
        with explained_storage(path):
            np.save(path, array, allow_pickle=False)
        owner = _Owner(Published(path.as_posix(), array.shape))
        _files[id(array)] = owner
        weakref.finalize(array, lambda kept: None, owner)  # holds the owner until the array is gone
    return owner.published


def in_blocks(
    function: Callable[..., Any],
    arrays: Sequence[np.ndarray],
    rows: int,
    work: int,
    step: int,
    widest: int,
    options: dict[str, Any],
) -> Iterator[tuple[slice, Any]] | None:
    """Let the cluster do work on rows, where there is one and the work is worth it.

    Args:
        function: called as `function(opened arrays, first row, row after the last, **options)`; importable.
        arrays: what it reads.
        rows: how many there are.
        work: multiplications for all rows.
        step: blocks begin at multiples of so many rows, so that products have the shapes that they have elsewhere.
        widest: bytes of the result for a row.
        options: further arguments of `function`, by name.

    Returns:
        the rows and the result of each block, in order; None where this process should do the work.
    """
    if work < LEAST_WORK or rows <= step:
        return None
    found = cluster()
    if found is None:
        return None
    most = min(BLOCK_WORK * rows // work, BLOCK_BYTES // max(1, widest))
    block = step * max(1, most // step)
    slices = [slice(start, min(start + block, rows)) for start in range(0, rows, block)]
    shared = tuple(publish(found.folder, array) for array in arrays)
    results = found.computed(partial(_block, function, shared, options), [(s.start, s.stop) for s in slices])
    return zip(slices, results, strict=True)


def _block(
    function: Callable[..., Any], shared: tuple[Published, ...], options: dict[str, Any], rows: tuple[int, int]
) -> Any:
    return function(*(array.open() for array in shared), *rows, **options)
