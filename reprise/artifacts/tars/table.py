"""far.parquet: where the tars of a folder of shards lie, and what they are, for shards whose tars are in a store.

The folder then holds this table and the index, and no tar. Each tar is an object `<sha256>.tar` below the address: its
name is that of its bytes, so an object is written once, and never means anything else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from reprise.artifacts.tables.parquet import read_table, write_table
from reprise.config.errors import ShardError
from reprise.config.texts.addresses import Address, parse_address, problem_of

FILE = "far.parquet"
SCHEMA = pa.schema(
    [
        pa.field("shard", pa.string(), nullable=False),  # file name of the tar, as in the index
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),  # of the whole tar
        pa.field("store", pa.string(), nullable=False),  # the address; the same in all rows
    ]
)
_SHA256 = re.compile(r"[0-9a-f]{64}")
FIX = "Run `dvc repro --force shard` to write it again (`dvc checkout data/shards` restores a cached copy)."


@dataclass(frozen=True)
class FarTar:
    """A tar in a store.

    Attributes:
        bytes: its length.
        sha256: of its bytes.
    """

    bytes: int
    sha256: str

    @property
    def object(self) -> str:
        """The name of the object below the address."""
        return f"{self.sha256}.tar"


@dataclass(frozen=True)
class FarTable:
    """All tars of a folder of shards.

    Attributes:
        store: the address below which they lie.
        tars: by file name.
    """

    store: Address
    tars: dict[str, FarTar]


def write_far(path: Path, store: Address, tars: dict[str, FarTar]) -> None:
    """Write the table, sorted by file name."""
    names = sorted(tars)
    columns = {
        "shard": names,
        "bytes": [tars[name].bytes for name in names],
        "sha256": [tars[name].sha256 for name in names],
        "store": [str(store)] * len(names),
    }
    write_table(path, pa.table(columns, schema=SCHEMA))


def read_far(directory: Path) -> FarTable | None:
    """Read and check the table of a folder of shards; None where its tars lie in the folder.

    Raises:
        ShardError: it is damaged, or holds what no stage writes.
    """
    path = directory / FILE
    if not path.exists():
        return None
    table = read_table(path, SCHEMA, ShardError, FIX)
    stores, names = set(table["store"].to_pylist()), table["shard"].to_pylist()
    sizes, hashes = table["bytes"].to_pylist(), table["sha256"].to_pylist()
    problem = None
    if len(stores) != 1:
        problem = f"{len(stores)} addresses of stores"
    elif (rule := problem_of(next(iter(stores)))) is not None:  # a table from elsewhere must not lead us anywhere
        problem = f"{next(iter(stores))}, and {rule[0]}"
    elif len(set(names)) < len(names):
        problem = "a name twice"
    elif any(size < 0 for size in sizes) or not all(_SHA256.fullmatch(value) for value in hashes):
        problem = "a length or a hash that is none"
    if problem is not None:
        raise ShardError("the table of far shards cannot be used", where=path, found=problem, fix=FIX)
    tars = {name: FarTar(*rest) for name, *rest in zip(names, sizes, hashes, strict=True)}
    return FarTable(parse_address(stores.pop()), tars)
