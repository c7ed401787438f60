"""Facts that are pictures or lists (masks, boxes, flow, poses): members `<key>.<fact>.<ext>` beside their image.

sides.parquet lies beside the tars and says where each member is, so that one is read by one `pread`. Where no source
gives such facts, there is no such file. `<key>.mask.png` is a PNG, boxes and poses are JSON, and flow is NumPy's npy:
any reader of WebDataset decodes them by their extension.
"""

from __future__ import annotations

import hashlib
import os
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from reprise.artifacts.layout import SHARDS
from reprise.artifacts.tables.parquet import read_table, write_table
from reprise.artifacts.tars.far import FarTars
from reprise.artifacts.tars.local import LocalTars
from reprise.artifacts.tars.opened import open_tars
from reprise.config.errors import ShardError

FILE = "sides.parquet"
TAR = "sides.tar"  # in data/ingest, before the shards are written
SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("fact", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),  # mask, boxes, flow, pose, caption
        pa.field("shard", pa.string(), nullable=False),  # file name of the tar
        pa.field("offset", pa.int64(), nullable=False),  # of the member's first byte
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("ext", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
    ]
)
_FIX = "Run `dvc repro shard` to write it again."


def write_sides(path: Path, rows: list[dict[str, object]]) -> None:
    """Write the table, sorted by key and fact."""
    write_table(path, pa.Table.from_pylist(rows, SCHEMA).sort_by([("key", "ascending"), ("fact", "ascending")]))


def read_sides(path: Path) -> list[dict[str, object]]:
    """Read the rows of a table of members.

    Raises:
        ShardError: the file is damaged, or names a file outside its folder.
    """
    rows: list[dict[str, object]] = read_table(path, SCHEMA, ShardError, _FIX).to_pylist()
    for row in rows:
        if "/" in str(row["shard"]) or str(row["shard"]).startswith("."):
            raise ShardError("the table names a file outside its folder", where=path, found=row["shard"], fix=_FIX)
    return rows


class Sides:
    """Random access to the members beside the images.

    Args:
        directory: the folder of the tars; one without sides.parquet has none.

    Attributes:
        kinds: fact -> kind.
    """

    def __init__(self, directory: Path = SHARDS) -> None:
        self.directory = Path(directory)
        path = self.directory / FILE
        rows = read_sides(path) if path.exists() else []
        self._rows = {(str(row["key"]), str(row["fact"])): row for row in rows}
        self.kinds = {str(row["fact"]): str(row["kind"]) for row in rows}

    def has(self, key: str, fact: str) -> bool:
        """Tell whether an image has such a member."""
        return (key, fact) in self._rows

    def count(self, fact: str) -> int:
        """Count the images that have such a member."""
        return sum(name == fact for _, name in self._rows)

    def sha256(self, key: str, fact: str) -> str:
        """Return the hash of an encoded member; it is in the table, so nothing is read."""
        return str(self._rows[key, fact]["sha256"])

    def read(self, key: str, fact: str) -> bytes:
        """Return the encoded member; reprise/media/image/sides.py decodes it.

        Raises:
            ShardError: the image has none, or the tar cannot be read.
        """
        row = self._rows.get((key, fact))
        if row is None:
            raise ShardError("an image has no such fact", where=self.directory / FILE, found=f"{key}.{fact}", fix=_FIX)
        name = str(row["shard"])
        data = self._tars.read(name, int(str(row["bytes"])), int(str(row["offset"])))
        return _as_written(data, row, self._tars.where(name))

    @cached_property
    def _tars(self) -> LocalTars | FarTars:
        return open_tars(self.directory)


def read_member(path: Path, row: dict[str, object]) -> bytes:
    """Read the bytes of a member and compare them with their hash.

    Raises:
        ShardError: the tar cannot be read, or holds other bytes.
    """
    size, offset = int(str(row["bytes"])), int(str(row["offset"]))
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.pread(descriptor, size, offset)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ShardError("a fact beside an image cannot be read", where=path, found=error.strerror, fix=_FIX) from error
    return _as_written(data, row, str(path))


def _as_written(data: bytes, row: dict[str, object], where: str) -> bytes:
    if hashlib.sha256(data).hexdigest() != row["sha256"]:
        raise ShardError(
            "a fact beside an image is not what was written",
            where=where,
            found=f"other bytes at {row['key']}.{row['fact']}",
            fix=_FIX,
        )
    return data
