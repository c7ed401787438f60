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
from reprise.artifacts.manifest import modality_of
from reprise.artifacts.tables.parquet import read_table, write_table
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

    Attributes:
        directory: the folder of the tars.
        fingerprint: SHA-256 of the index, which holds the SHA-256 of every image; so it stands for all of them.
        keys, splits, groups: (n,) object arrays of strings; groups may hold None.
        widths, heights, channels: (n,) int64.
        depths: (n,) int64, slices of volumes; None where samples have no depth.
        modality: the kind of all samples.
        tars: where the bytes lie.
    """

    def __init__(
        self, directory: str | Path, table: pa.Table, fingerprint: str, tars: LocalTars | FarTars | None = None
    ) -> None:
        self.directory, self.fingerprint = Path(directory), fingerprint
        self.keys, self.splits, self.groups = (_objects(table[name]) for name in ("key", "split", "group"))
        self.widths, self.heights, self.channels = (
            table[name].to_numpy().astype(np.int64) for name in ("width", "height", "channels")
        )
        self.modality = modality_of(table)
        self.depths = table["depth"].to_numpy().astype(np.int64) if "depth" in table.column_names else None
        self._shards, self._sha256 = table["shard"].to_pylist(), table["sha256"].to_pylist()
        self._offsets, self._bytes = table["offset"].to_pylist(), table["bytes"].to_pylist()
        self.tars = LocalTars(self.directory) if tars is None else tars

    @classmethod
    def open(cls, directory: str | Path = SHARDS, far: FarParams | None = None) -> Shards:
        """Open a folder of shards.

        Args:
            directory: of the index, and of the tars unless they lie in a store.
            far: how a store is asked; None takes `cache.far` of params.yaml.

        Raises:
            ShardError: the index is missing or damaged, or a shard is missing or shorter than the index says.
        """
        table = read_index(directory)
        fingerprint = hashlib.sha256((Path(directory) / INDEX).read_bytes()).hexdigest()
        shards = cls(directory, table, fingerprint, open_tars(Path(directory), far))
        shards._check_sizes()
        return shards

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def sides(self) -> np.ndarray:
        """The sides of each sample in the order of its axes: (n, 2) int64, or (n, 3) with the depth first."""
        axes = [self.heights, self.widths] if self.depths is None else [self.depths, self.heights, self.widths]
        return np.stack(axes, axis=1)

    def sides_of(self, row: int) -> tuple[int, ...]:
        """Return the sides of one sample."""
        depth = () if self.depths is None else (int(self.depths[row]),)
        return (*depth, int(self.heights[row]), int(self.widths[row]))

    def rows(self, split: str | None = None) -> np.ndarray:
        """Return the row numbers of a split, or of all splits for None: (m,) int64, by key within each split."""
        return np.arange(len(self)) if split is None else np.flatnonzero(self.splits == split)

    def read(self, row: int) -> bytes:
        """Return the encoded image of a row.

        Raises:
            ShardError: the shard cannot be read or ends too early.
            MachineError: the machine is the reason that it cannot be read.
        """
        name, size = self._shards[row], self._bytes[row]
        data = self.tars.read(name, size, self._offsets[row])
        if len(data) != size:
            raise ShardError(
                "a shard is truncated",
                where=self.tars.where(name),
                found=f"{len(data)} of {size} bytes at {self._offsets[row]}",
                fix=_FIX,
            )
        return data

    def verify(self) -> None:
        """Compare every image with its hash.

        Raises:
            ShardError: naming the first shard and key whose bytes differ.
        """
        for row in np.lexsort((self._offsets, self._shards)).tolist():
            if hashlib.sha256(self.read(row)).hexdigest() != self._sha256[row]:
                raise ShardError(
                    "a shard does not hold what was written",
                    where=self.tars.where(self._shards[row]),
                    found=f"other bytes at key {self.keys[row]}",
                    fix=_FIX,
                )

    def close(self) -> None:
        """Close the tars; `read` opens them again."""
        self.tars.close()

    @cached_property
    def of_tar(self) -> tuple[np.ndarray, np.ndarray]:
        """The number of the tar of each row, (n,) int64, and how far the rows of each tar reach in bytes, (t,) int64.

        Both follow from the index, so they are the same wherever the tars lie.
        """
        places = {name: number for number, name in enumerate(self.tar_names)}
        # no array of the names, whose characters take 4 bytes each
        number = np.fromiter((places[name] for name in self._shards), np.int64, len(self))
        ends = np.zeros(len(places), np.int64)
        np.maximum.at(ends, number, np.asarray(self._offsets, np.int64) + np.asarray(self._bytes, np.int64))
        return number, ends

    def expect(self, numbers: Sequence[int]) -> None:
        """Bring tars here that will soon be read, in this order, while the caller goes on; see `of_tar`."""
        self.tars.expect([self.tar_names[number] for number in numbers])

    def let_go(self, numbers: Sequence[int]) -> None:
        """Let tars make room for others before those that were used longer ago; see `of_tar`."""
        self.tars.let_go([self.tar_names[number] for number in numbers])

    @cached_property
    def tar_names(self) -> list[str]:
        """File names of the tars, by number."""
        return sorted(set(self._shards))

    def _check_sizes(self) -> None:
        needed: dict[str, int] = {}
        for name, offset, size in zip(self._shards, self._offsets, self._bytes, strict=True):
            if "/" in name or name.startswith("."):
                raise ShardError(  # an index from elsewhere must not make us read other files
                    "the index names a file outside its folder", where=self.directory / INDEX, found=name, fix=_FIX
                )
            needed[name] = max(needed.get(name, 0), offset + size)
        self.tars.check(needed)


def _objects(column: pa.ChunkedArray) -> np.ndarray:
    values = np.empty(len(column), dtype=object)
    values[:] = column.to_pylist()
    return values
