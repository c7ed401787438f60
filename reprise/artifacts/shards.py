"""Shards: plain WebDataset tars, and an index of byte offsets.

Tars are `<split>-%06d.tar` with members `<key>.<ext>` and `<key>.json`. Through the index any image is one `pread`, so
images can be read in any order. The tars lie beside the index or in a store (reprise/artifacts/tars). Everything stored
is plain (reprise/media/image/decode.py), and nothing holds labels. A truncated or exchanged shard is an error that
names it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from reprise.artifacts.layout import SHARDS
from reprise.artifacts.manifest import IMAGE, modality_of
from reprise.artifacts.tables.columns import Keys, Numbering, Texts, give_back, in_blocks, joined, narrow, places
from reprise.artifacts.tables.parquet import PART, read_in_parts, read_table, write_table
from reprise.artifacts.tars.far import FarTars
from reprise.artifacts.tars.local import FIX as _FIX
from reprise.artifacts.tars.local import LocalTars
from reprise.artifacts.tars.opened import open_tars
from reprise.config.errors import ShardError
from reprise.config.stores import FarParams

INDEX = "index.parquet"
INDEX_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("shard", pa.string(), nullable=False),  # file name
        pa.field("offset", pa.int64(), nullable=False),  # of the image's first byte in the tar
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("ext", pa.string(), nullable=False),  # jpg, png, webp
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("channels", pa.int8(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),  # of the stored bytes
        pa.field("group", pa.string(), nullable=True),
    ]
)
FURTHER_SCHEMA = pa.schema(  # columns of other modalities than images; an index of images has none of them
    [
        pa.field("modality", pa.string(), nullable=False),  # the same in all rows
        pa.field("depth", pa.int32(), nullable=False),  # slices of a volume
    ]
)
_PLACES = ("offset", "bytes")  # where the bytes of an image lie in its tar
_SIDES = ("width", "height", "channels", "depth")


def write_index(path: str | Path, table: pa.Table) -> None:
    """Write the index sorted by split and key."""
    schema = index_schema(table.column_names)
    write_table(path, table.select(schema.names).cast(schema).sort_by([("split", "ascending"), ("key", "ascending")]))


def index_schema(names: Iterable[str]) -> pa.Schema:
    """Return the schema of an index that has these columns: those of all indices, and of its modality."""
    present = set(names)
    return pa.schema([*INDEX_SCHEMA, *(field for field in FURTHER_SCHEMA if field.name in present)])


def read_index(directory: str | Path = SHARDS, fix: str = _FIX) -> pa.Table:
    """Read and check the index of a folder of shards.

    Raises:
        ShardError: it is missing or damaged.
    """
    return read_table(Path(directory) / INDEX, INDEX_SCHEMA, ShardError, fix, further=FURTHER_SCHEMA)


class Shards:
    """Random access to all images of a shards folder; safe to share between threads.

    It holds some 50 bytes an image, in columns. What only few ask for (hashes, groups, extensions) stays in the file.

    Attributes:
        directory: the folder of the tars.
        fingerprint: SHA-256 of the index, which holds the SHA-256 of every image; so it stands for all of them.
        keys: (n,) strings.
        widths, heights: (n,) int32.
        channels: (n,) int8.
        depths: (n,) int32, slices of volumes; None where samples have no depth.
        modality: the kind of all samples.
        tar_names: file names of the tars, by number.
        tars: where the bytes lie.

    Args:
        directory: the folder of the tars.
        tables: the rows of the index, in parts.

    Raises:
        ShardError: the index names a file outside its folder, or a place that cannot be.
    """

    def __init__(self, directory: str | Path, tables: Iterable[pa.Table]) -> None:
        self.directory, self.fingerprint, self.modality = Path(directory), "", IMAGE
        self.tars: LocalTars | FarTars = LocalTars(self.directory)
        keys: list[pa.Array] = []
        parts: dict[str, list[np.ndarray]] = {name: [] for name in (*_PLACES, *_SIDES)}
        splits, tars = Numbering(), Numbering()
        for table in tables:
            self.modality = self.modality if keys else modality_of(table)
            keys += table["key"].chunks
            splits.add(table["split"])
            tars.add(table["shard"])
            for name in _PLACES:
                parts[name].append(narrow(self._possible(name, table[name].to_numpy())))
            for name in _SIDES:
                if name in table.column_names:
                    parts[name].append(table[name].to_numpy())
        self.keys = Texts(pa.chunked_array(in_blocks(keys), pa.string()))
        self._split, self._split_names = splits.sorted()
        self._tar, self.tar_names = tars.sorted()
        self._offsets, self._bytes = (joined(parts.pop(name), np.int64) for name in _PLACES)
        self.widths, self.heights = (joined(parts.pop(name), np.int32) for name in ("width", "height"))
        self.channels = joined(parts.pop("channels"), np.int8)
        self.depths = joined(parts.pop("depth"), np.int32) if parts["depth"] else None

    @classmethod
    def open(cls, directory: str | Path = SHARDS, far: FarParams | None = None) -> Shards:
        """Open a folder of shards.

        Args:
            directory: of the index, and of the tars unless they lie in a store.
            far: how a store is asked; None takes `cache.far` of params.yaml.

        Raises:
            ShardError: the index is missing or damaged, or a shard is missing or shorter than the index says.
        """
        index = Path(directory) / INDEX
        shards = cls(directory, read_in_parts(index, INDEX_SCHEMA, ShardError, _FIX, FURTHER_SCHEMA))
        give_back()
        with index.open("rb") as file:
            shards.fingerprint = hashlib.file_digest(file, "sha256").hexdigest()
        shards.tars = open_tars(Path(directory), far)
        shards._check_sizes()
        return shards

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def splits(self) -> np.ndarray:
        """The split of each sample: (n,) objects, one for each split."""
        return np.array(self._split_names, object)[self._split]

    @property
    def sides(self) -> np.ndarray:
        """The sides of each sample in the order of its axes: (n, 2) int64, or (n, 3) with the depth first."""
        axes = [self.heights, self.widths] if self.depths is None else [self.depths, self.heights, self.widths]
        return np.stack(axes, axis=1, dtype=np.int64)

    def sides_of(self, row: int) -> tuple[int, ...]:
        """Return the sides of one sample."""
        depth = () if self.depths is None else (int(self.depths[row]),)
        return (*depth, int(self.heights[row]), int(self.widths[row]))

    def rows(self, split: str | None = None) -> np.ndarray:
        """Return the row numbers of a split, or of all splits for None: (m,) int64, by key within each split."""
        if split is None:
            return np.arange(len(self))
        if split not in self._split_names:
            return np.zeros(0, np.int64)
        return np.flatnonzero(self._split == self._split_names.index(split))

    def rows_of(self, keys: Keys) -> np.ndarray:
        """Return the row numbers of samples by their keys: (m,) int64.

        Raises:
            ShardError: one of them is not here.
        """
        rows = places(keys, self.keys)
        if (missing := np.flatnonzero(rows < 0)).size:
            raise ShardError(
                "the shards do not hold the images of the manifest",
                where=self.directory,
                found=f"{len(missing)} images missing, such as {keys[missing[0]]}",
                fix="Run `reprise repro shard`.",
            )
        return rows

    def read(self, row: int) -> bytes:
        """Return the encoded image of a row.

        Raises:
            ShardError: the shard cannot be read or ends too early.
            MachineError: the machine is the reason that it cannot be read.
        """
        name, size, offset = self.tar_names[self._tar.item(row)], self._bytes.item(row), self._offsets.item(row)
        data = self.tars.read(name, size, offset)
        if len(data) != size:
            raise ShardError(
                "a shard is truncated",
                where=self.tars.where(name),
                found=f"{len(data)} of {size} bytes at {offset}",
                fix=_FIX,
            )
        return data

    def verify(self) -> None:
        """Compare every image with its hash.

        Raises:
            ShardError: naming the first shard and key whose bytes differ.
        """
        stated = Texts(read_index(self.directory)["sha256"])
        for row in np.lexsort((self._offsets, self._tar)).tolist():
            if hashlib.sha256(self.read(row)).hexdigest() != stated[row]:
                raise ShardError(
                    "a shard does not hold what was written",
                    where=self.tars.where(self.tar_names[self._tar[row]]),
                    found=f"other bytes at key {self.keys[row]}",
                    fix=_FIX,
                )

    def close(self) -> None:
        """Close the tars; `read` opens them again."""
        self.tars.close()

    @cached_property
    def of_tar(self) -> tuple[np.ndarray, np.ndarray]:
        """The number of the tar of each row, (n,) unsigned, and how far each tar is needed in bytes, (t,) int64.

        Both follow from the index, so they are the same wherever the tars lie.
        """
        ends = np.zeros(len(self.tar_names), np.uint64)
        for start in range(0, len(self), PART):
            rows = slice(start, start + PART)
            np.maximum.at(ends, self._tar[rows], self._offsets[rows].astype(np.uint64) + self._bytes[rows])
        return self._tar, np.minimum(ends, np.iinfo(np.int64).max).astype(np.int64)

    def expect(self, numbers: Sequence[int]) -> None:
        """Bring tars here that will soon be read, in this order, while the caller goes on; see `of_tar`."""
        self.tars.expect([self.tar_names[number] for number in numbers])

    def let_go(self, numbers: Sequence[int]) -> None:
        """Let tars make room for others before those that were used longer ago; see `of_tar`."""
        self.tars.let_go([self.tar_names[number] for number in numbers])

    def _possible(self, name: str, values: np.ndarray) -> np.ndarray:
        if len(values) and values.min() < 0:
            where = f"{self.directory / INDEX}, column '{name}'"
            raise ShardError("the index names a place that cannot be", where=where, found=values.min(), fix=_FIX)
        return values

    def _check_sizes(self) -> None:
        for name in self.tar_names:
            if "/" in name or name.startswith("."):
                raise ShardError(  # an index from elsewhere must not make us read other files
                    "the index names a file outside its folder", where=self.directory / INDEX, found=name, fix=_FIX
                )
        self.tars.check(dict(zip(self.tar_names, self.of_tar[1].tolist(), strict=True)))
