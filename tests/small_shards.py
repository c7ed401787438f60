"""A folder of shards with a few photos, written by hand: for tests of the shards and of what reads them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow as pa

from reprise.artifacts.shards import INDEX_SCHEMA, Shards, write_index
from reprise.storage import ustar
from tests.stages.ingest.hostile import encoded, photo

SIZES = [(24, 32), (24, 32), (16, 16), (40, 20), (24, 32)]


def make_shards(
    directory: Path,
    sizes: list[tuple[int, int]] = SIZES,
    split: str = "train",
    spoil: int | None = None,
    kind: str = "PNG",
) -> Shards:
    """A shards folder with one tar of photos, written here by hand; `spoil`: row whose bytes are no image."""
    extension = {"PNG": "png", "JPEG": "jpg"}[kind]
    directory.mkdir(parents=True)
    rows, tar = [], b""
    for seed, (height, width) in enumerate(sizes):
        data = b"no image" if seed == spoil else encoded(photo(seed, height, width), kind)
        key = hashlib.sha256(b"%d" % seed).hexdigest()[:24]
        facts = {
            "key": key,
            "split": split if seed else "test",
            "shard": "train-000000.tar",
            "offset": len(tar) + ustar.BLOCK,
            "bytes": len(data),
        }
        facts |= {
            "ext": extension,
            "width": width,
            "height": height,
            "channels": 3,
            "sha256": hashlib.sha256(data).hexdigest(),
            "group": f"g{seed}" if seed % 2 else None,
        }
        rows.append(facts)
        tar += ustar.member(f"{key}.{extension}", data)
    (directory / "train-000000.tar").write_bytes(tar + ustar.END)
    write_index(directory / "index.parquet", pa.Table.from_pylist(rows, schema=INDEX_SCHEMA))
    return Shards.open(directory)


def seed_of(shards: Shards, row: int) -> int:
    return next(s for s in range(20) if hashlib.sha256(b"%d" % s).hexdigest()[:24] == shards.keys[row])
