"""Columns of tables in few bytes a row: what is asked for becomes an object of Python, and nothing else does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_BLOCK_BYTES = 1 << 30


class Texts:
    """A column of strings that Arrow holds, read like an array of objects: 28 bytes for a key, not 89.

    Args:
        column: (n,) strings; some may be null, which is None.
    """

    def __init__(self, column: pa.ChunkedArray) -> None:
        self.column = column

    def __len__(self) -> int:
        return len(self.column)

    @overload
    def __getitem__(self, which: int | np.integer[Any]) -> str: ...

    @overload
    def __getitem__(self, which: slice | Sequence[int] | np.ndarray) -> Texts: ...

    def __getitem__(self, which: int | np.integer[Any] | slice | Sequence[int] | np.ndarray) -> str | Texts:
        """Return one string, or a column of some: those of a slice, of row numbers, or of (n,) booleans."""
        if isinstance(which, int | np.integer):
            found: str = self.column[int(which)].as_py()
            return found
        if isinstance(which, slice):
            return self[np.arange(len(self))[which]]
        rows = np.asarray(which)
        if rows.dtype == bool:
            return Texts(self.column.filter(pa.array(rows)))
        first = int(rows[0]) if len(rows) else 0
        within = 0 <= first <= len(self) - len(rows)  # a slice would leave out what is not there
        if within and np.array_equal(rows, np.arange(first, first + len(rows))):  # a split is: nothing is copied
            return Texts(self.column.slice(first, len(rows)))
        return Texts(self.column.take(pa.array(rows)))

    def __iter__(self) -> Iterator[str]:
        for chunk in self.column.chunks:
            yield from chunk.to_pylist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return (n,) objects."""
        values = np.empty(len(self), object)
        values[:] = self.tolist()
        return values

    def tolist(self) -> list[str]:
        """Return all strings."""
        return list(self)


Keys = Texts | np.ndarray  # (n,) strings, in either form


def column_of(keys: Keys) -> pa.ChunkedArray:
    """Return keys as a column of Arrow."""
    return keys.column if isinstance(keys, Texts) else pa.chunked_array([pa.array(keys.tolist(), pa.string())])


def places(keys: Keys, among: Keys) -> np.ndarray:
    """Return where each key stands among others: (n,) int64, -1 where it is not there; by hashes, without objects.

    Args:
        keys: (n,), to look up.
        among: all different.
    """
    wanted, known = column_of(keys), column_of(among)
    if wanted.equals(known):  # the usual case: a label set of all training images
        return np.arange(len(wanted))
    found, start = np.full(len(wanted), -1, np.int64), 0
    for block in in_blocks(known.chunks):
        place = pc.index_in(wanted, value_set=block).fill_null(-1).to_numpy()
        found = np.where(place >= 0, place + start, found)
        start += len(block)
    return found


def shared_objects(column: pa.ChunkedArray) -> np.ndarray:
    """Return a column of few different strings as (n,) objects, one for each of them; null is None."""
    values = np.empty(len(column), object)
    start = 0
    for chunk in column.chunks:
        coded = chunk.dictionary_encode()
        names = np.array([*coded.dictionary.to_pylist(), None], object)
        values[start : start + len(chunk)] = names[coded.indices.fill_null(-1).to_numpy()]
        start += len(chunk)
    return values


class Numbering:
    """Numbers for the different strings of a column that comes in parts."""

    def __init__(self) -> None:
        self._number: dict[str, int] = {}
        self._parts: list[np.ndarray] = []

    def add(self, part: pa.ChunkedArray) -> None:
        """Take the next rows."""
        for chunk in part.chunks:
            coded = chunk.dictionary_encode()
            numbers = [self._number.setdefault(name, len(self._number)) for name in coded.dictionary.to_pylist()]
            self._parts.append(narrow(np.array(numbers, np.int64))[coded.indices.to_numpy()])

    def sorted(self) -> tuple[np.ndarray, list[str]]:
        """Return the number of each row, (n,) unsigned, and the strings by their numbers, in their order."""
        names = sorted(self._number)
        place = narrow(np.argsort([self._number[name] for name in names]))
        return place[joined(self._parts, np.uint8)], names


def joined(parts: list[np.ndarray], dtype: Any) -> np.ndarray:
    """Join parts of a column; without parts there are no rows, and `dtype` is their type."""
    return np.concatenate(parts) if parts else np.zeros(0, dtype)


def narrow(values: np.ndarray) -> np.ndarray:
    """Return numbers of at least 0 in the smallest unsigned type that holds them."""
    return values.astype(np.min_scalar_type(values.max(initial=0)))


def in_blocks(parts: Sequence[pa.Array]) -> list[pa.Array]:
    """Join parts of a column of strings into blocks that are large, and small enough for offsets of 32 bits.

    They lie outside of Arrow's own pool, which returns no memory to the system while a part of it is in use.
    """
    block = np.cumsum([part.nbytes for part in parts]) // _BLOCK_BYTES
    members = [[part for part, of in zip(parts, block, strict=True) if of == number] for number in np.unique(block)]
    pool = pa.system_memory_pool()
    return [pa.concat_arrays([*some, some[0][:0]], memory_pool=pool) for some in members]  # one alone is not copied


def give_back() -> None:
    """Return the memory to the system that Arrow needed to read a table and has free now; its pool keeps it."""
    pa.default_memory_pool().release_unused()
